//! record keeps what was measured, as lines of JSON: the first one says what was asked for, then
//! each cell has one. The four of a block are written and synced together, so that a run that is
//! killed loses the block that it was at and nothing else.
//!
//! A file is read as anybody's: bounded, and every line judged. What follows the last whole block
//! of a run that was killed is cut off before it goes on.

mod error;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use error::RecordError;
use error::at;

use super::schedule::{ATTEMPTS, BLOCKS_MAX};
use super::{Arm, Guard, Limits, Phase, Side, Workload};

/// What was asked for, and where.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// [`Begin::VERSION`].
    pub schema: u32,
    /// `experiment` or `matrix`.
    pub what: String,
    /// The command, as a shell takes it.
    pub command: String,
    /// Seconds since the Unix epoch.
    pub at_s: u64,
    /// What every order was drawn from.
    pub seed: u64,
    /// How long all cells may take together, seconds.
    pub budget_s: f64,
    /// The measured part of a cell, seconds.
    pub cell_s: f64,
    /// The smallest effect that matters, a share of 1.
    pub smallest_effect: f64,
    /// Blocks of each phase.
    pub blocks: Blocks,
    /// What is measured.
    pub workloads: Vec<Workload>,
    /// What is compared; the first one is the baseline.
    pub arms: Vec<Arm>,
    /// What cannot be measured here.
    pub skipped: Vec<Skipped>,
    /// What makes a block void.
    pub limits: Limits,
    /// Requests a second that a closed loop reached before the first block; what overload and
    /// latency are set by.
    pub reached: Option<f64>,
    /// `lo`, `veth` or `host`.
    pub device: String,
    /// Cores of the server.
    pub server_cores: Vec<usize>,
    /// Cores of the generator.
    pub load_cores: Vec<usize>,
    /// The host: name and value.
    pub host: Vec<(String, String)>,
}

impl Begin {
    /// Of this form of the file.
    pub const VERSION: u32 = 2;

    /// Without characters that would move the cursor of whoever reads it: the file might be
    /// anybody's.
    fn clean(&mut self) {
        let Self { what, command, device, host, arms, skipped, .. } = self;
        let mut texts = vec![what, command, device];
        texts.extend(host.iter_mut().flat_map(|(name, value)| [name, value]));
        texts.extend(skipped.iter_mut().flat_map(|of| [&mut of.name, &mut of.why]));
        for Arm { name, program, serve, load, set, about, .. } in arms {
            texts.extend([name, about]);
            texts.extend(program);
            texts.extend(serve.iter_mut().chain(load));
            texts.extend(set.iter_mut().flat_map(|(id, value)| [id, value]));
        }
        texts.into_iter().for_each(clean);
    }
}

fn clean(text: &mut String) {
    if text.chars().any(char::is_control) {
        *text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    }
}

/// Blocks of each phase, for each arm and workload.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Blocks {
    /// Of the baseline against itself.
    pub calibrate: u32,
    /// Of each arm.
    pub screen: u32,
    /// Of each of the best few; 0 where a single arm is screened, on data that is fresh anyway.
    pub confirm: u32,
}

/// What cannot be measured.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// What people call it.
    pub name: String,
    /// Why not.
    pub why: String,
}

/// Which block it is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Step {
    /// What for.
    pub phase: Phase,
    /// Of what.
    pub workload: Workload,
    /// Number of the arm.
    pub arm: usize,
    /// Number of the block among those of its kind.
    pub block: u32,
    /// How many void ones there were.
    pub attempt: u32,
}

/// One measurement.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// The figure of the workload; more than 0.
    pub figure: f64,
    /// How long it took with everything, seconds.
    pub took_s: f64,
    /// What happened on the host.
    pub readings: BTreeMap<Guard, f64>,
    /// CPU time of the server, seconds.
    pub server_cpu_s: Option<f64>,
}

/// Four cells in the order in which they were measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Which one.
    pub step: Step,
    /// ABBA or BAAB.
    pub cells: Vec<(Side, Cell)>,
}

/// A line of the file.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "record", rename_all = "lowercase")]
enum Record {
    Begin(Box<Begin>),
    Cell {
        #[serde(flatten)]
        step: Step,
        side: Side,
        cell: Cell,
    },
    Broken {
        workload: Workload,
        arm: usize,
        why: String,
        /// How long it took to know, seconds.
        #[serde(default)]
        took_s: f64,
    },
}

/// Everything that a file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// What was asked for.
    pub begin: Begin,
    /// In the order in which they were measured.
    pub blocks: Vec<Block>,
    /// Arms that did not run, with the workload and the reason.
    pub broken: BTreeMap<(usize, Workload), String>,
    /// How long it took to know that, seconds.
    pub lost_s: f64,
}

/// How far a run is that is not done.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Unfinished {
    /// Blocks that were measured.
    pub blocks: usize,
    /// Blocks in all, at most.
    pub of: usize,
}

/// A file of records that is being written.
#[derive(Debug)]
pub struct Records {
    file: File,
    path: PathBuf,
}

impl Log {
    /// A run of which nothing was measured yet.
    #[must_use]
    pub const fn new(begin: Begin) -> Self {
        Self { begin, blocks: Vec::new(), broken: BTreeMap::new(), lost_s: 0.0 }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it is none of ours.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let file = open(path, OpenOptions::new().read(true))?;
        Ok(Self::read_from(&file, path)?.0)
    }

    /// The log, and how many bytes of the file are whole blocks.
    fn read_from(file: &File, path: &Path) -> Result<(Self, u64), RecordError> {
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(|source| at(path, source))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(RecordError::Large(path.into()));
        }
        Self::parse(&text).map_err(|(line, why)| RecordError::Line { path: path.into(), line, why })
    }

    fn parse(text: &[u8]) -> Result<(Self, u64), (usize, String)> {
        let (mut log, mut whole, mut end) = (None::<Self>, 0, 0);
        let mut open: Vec<(Step, Side, Cell)> = Vec::new();
        let mut done = BTreeSet::new();
        for (number, line) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
            end += line.len() as u64;
            // What a kill left of the last line.
            let Some(line) = line.strip_suffix(b"\n") else { break };
            let record = serde_json::from_slice::<Record>(line)
                .map_err(|error| (number, format!("no record ({error})")))?;
            match (record, &mut log) {
                (Record::Begin(mut begin), None) => {
                    check(&begin).map_err(|why| (number, why))?;
                    begin.clean();
                    log = Some(Self::new(*begin));
                }
                (Record::Begin(_), Some(_)) => return Err((number, "a second beginning".into())),
                (_, None) => return Err((number, "the beginning is missing".into())),
                (Record::Broken { workload, arm, mut why, took_s }, Some(log)) => {
                    if !(took_s >= 0.0 && took_s.is_finite()) {
                        return Err((number, format!("took_s {took_s}: no positive number")));
                    }
                    open.clear();
                    clean(&mut why);
                    log.lost_s += took_s;
                    log.broken.insert((arm, workload), why);
                }
                (Record::Cell { step, side, cell }, Some(log)) => {
                    log.judge(&step, &cell).map_err(|why| (number, why))?;
                    if open.first().is_some_and(|(of, ..)| *of != step) {
                        return Err((number, "a cell within another block".into()));
                    }
                    open.push((step, side, cell));
                    if open.len() < CELLS {
                        continue;
                    }
                    let cells: Vec<_> =
                        open.drain(..).map(|(_, side, cell)| (side, cell)).collect();
                    if !cells.iter().map(|(side, _)| *side).eq(step.sides(log.begin.seed)) {
                        return Err((number, "sides in another order than was drawn".into()));
                    }
                    if !done.insert(step) {
                        return Err((number, "a block for the second time".into()));
                    }
                    log.blocks.push(Block { step, cells });
                }
            }
            whole = end;
        }
        let log = log.ok_or_else(|| (1, "there is nothing in it".to_owned()))?;
        Ok((log, whole))
    }

    fn judge(&self, step: &Step, cell: &Cell) -> Result<(), String> {
        let Begin { arms, workloads, blocks, .. } = &self.begin;
        let is_asked = step.arm < arms.len()
            && workloads.contains(&step.workload)
            && step.block < blocks.of(step.phase)
            && step.attempt < ATTEMPTS;
        if !is_asked {
            return Err("a cell of what was not asked for".into());
        }
        let Cell { figure, took_s, .. } = *cell;
        if figure > 0.0 && figure.is_finite() && took_s >= 0.0 && took_s.is_finite() {
            return Ok(());
        }
        Err(format!("figure {figure}, took_s {took_s}: not positive numbers"))
    }
}

fn check(begin: &Begin) -> Result<(), String> {
    let Begin { schema, arms, workloads, smallest_effect, .. } = begin;
    if *schema != Begin::VERSION {
        return Err(format!("schema {schema}, this quiclane knows {}", Begin::VERSION));
    }
    let is_few = (1..=Workload::ALL.len()).contains(&workloads.len());
    if arms.is_empty() || arms.len() > ARMS_MAX || !is_few {
        return Err(format!("{} arms and {} workloads", arms.len(), workloads.len()));
    }
    let Blocks { calibrate, screen, confirm } = begin.blocks;
    if [calibrate, screen, confirm].iter().any(|blocks| *blocks > BLOCKS_MAX) {
        return Err(format!("more than {BLOCKS_MAX} blocks"));
    }
    if !(*smallest_effect > 0.0 && *smallest_effect < 1.0) {
        return Err(format!("smallest_effect {smallest_effect}: a share of 0 to 1"));
    }
    Ok(())
}

impl Records {
    /// Whether there is room for a new file of this name: known before anything is measured.
    ///
    /// # Errors
    /// When there is one already, or no folder for it.
    pub fn is_free(path: &Path) -> Result<(), RecordError> {
        if fs::symlink_metadata(path).is_ok() {
            return Err(at(path, io::ErrorKind::AlreadyExists.into()));
        }
        let about = fs::metadata(folder_of(path)).and_then(|about| match about.is_dir() {
            true => Ok(()),
            false => Err(io::ErrorKind::NotADirectory.into()),
        });
        about.map_err(|source| RecordError::Folder {
            path: path.into(),
            folder: folder_of(path).into(),
            source,
        })
    }

    /// Begins a new file, which must not be there yet.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path, begin: &Begin) -> Result<Self, RecordError> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = file.map_err(|source| at(path, source))?;
        let mut records = Self { file, path: path.into() };
        records.lock()?;
        records.add(&[Record::Begin(Box::new(begin.clone()))])?;
        let folder = File::open(folder_of(path));
        folder.and_then(|folder| folder.sync_all()).map_err(|source| at(path, source))?;
        Ok(records)
    }

    /// Goes on with a file, after its last whole block. What it says will be done, so nobody else
    /// may have written it.
    ///
    /// # Errors
    /// When it is none of ours, or cannot be written.
    pub fn resume(path: &Path) -> Result<(Log, Self), RecordError> {
        let file = open(path, OpenOptions::new().read(true).write(true))?;
        let mut records = Self { file, path: path.into() };
        let about = records.file.metadata().map_err(|source| at(path, source))?;
        let this = fs::metadata("/proc/self").map_err(|source| at(path, source))?;
        if about.uid() != this.uid() || about.mode() & OTHERS_WRITE != 0 {
            return Err(RecordError::Foreign(path.into()));
        }
        records.lock()?;
        let (log, whole) = Log::read_from(&records.file, path)?;
        let cut = records.file.set_len(whole);
        let end = cut.and_then(|()| records.file.seek(SeekFrom::Start(whole)));
        end.map_err(|source| at(path, source))?;
        Ok((log, records))
    }

    pub(super) fn block(&mut self, block: &Block) -> Result<(), RecordError> {
        let cell = |(side, cell): &(Side, Cell)| Record::Cell {
            step: block.step,
            side: *side,
            cell: cell.clone(),
        };
        self.add(&block.cells.iter().map(cell).collect::<Vec<_>>())
    }

    pub(super) fn broken(
        &mut self,
        arm: usize,
        workload: Workload,
        why: &str,
        took_s: f64,
    ) -> Result<(), RecordError> {
        self.add(&[Record::Broken { workload, arm, why: why.into(), took_s }])
    }

    fn add(&mut self, records: &[Record]) -> Result<(), RecordError> {
        let mut text = String::new();
        for record in records {
            let line = serde_json::to_string(record);
            text.push_str(&line.map_err(|source| at(&self.path, source.into()))?);
            text.push('\n');
        }
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|source| at(&self.path, source))
    }

    /// What a killed writer has started may hold the file for an instant, until it runs a program
    /// of its own.
    fn lock(&self) -> Result<(), RecordError> {
        for _ in 0..LOOKS {
            match self.file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
                Err(TryLockError::Error(source)) => return Err(at(&self.path, source)),
            }
        }
        Err(RecordError::Busy(self.path.clone()))
    }
}

/// Opens a regular file, and waits for nobody who might write into a pipe.
fn open(path: &Path, options: &mut OpenOptions) -> Result<File, RecordError> {
    let file = options.custom_flags(O_NONBLOCK).open(path).map_err(|source| at(path, source))?;
    match file.metadata().map_err(|source| at(path, source))?.is_file() {
        true => Ok(file),
        false => Err(RecordError::Irregular(path.into())),
    }
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or_else(|| Path::new("."))
}

/// Opening a pipe waits for nobody. The same number on every architecture that Rust has Linux for,
/// but MIPS and SPARC.
const O_NONBLOCK: i32 = 0o4000;

/// Mode bits of group and others.
const OTHERS_WRITE: u32 = 0o022;

/// How often a file that is held is looked at again, and after how long.
const LOOKS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// ABBA.
pub(super) const CELLS: usize = 4;

/// Years of cells.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// More could not be measured in a week.
pub(super) const ARMS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;
    use std::sync::mpsc;

    use super::*;
    use crate::experiment::synthetic::{Noise, begin, completed};

    fn written() -> (tempfile::TempDir, PathBuf, Log) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        let log = completed(begin(2, &[Workload::Requests]), Noise::default());
        let mut records = Records::create(&path, &log.begin).unwrap();
        for block in &log.blocks {
            records.block(block).unwrap();
        }
        records.broken(1, Workload::Requests, "it \"broke\"\n", 2.5).unwrap();
        (folder, path, log)
    }

    #[test]
    fn what_is_written_is_read() {
        let (_folder, path, mut log) = written();
        log.broken.insert((1, Workload::Requests), "it \"broke\" ".into());
        log.lost_s = 2.5;
        let read = Log::read(&path).unwrap();
        assert_eq!(read.begin, log.begin);
        assert_eq!((read.blocks.len(), &read.broken), (log.blocks.len(), &log.broken));
        for (read, log) in read.blocks.iter().zip(&log.blocks) {
            assert_eq!(read.step, log.step);
            assert!((read.ratio() - log.ratio()).abs() < 1e-12);
        }
    }

    #[test]
    fn a_cut_file_goes_on_after_its_last_whole_block() {
        let (_folder, path, _) = written();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let begin_bytes = lines[0].len();
        for cut in [begin_bytes, begin_bytes + 1, begin_bytes + lines[1].len(), text.len() - 1] {
            fs::write(&path, &text[..cut]).unwrap();
            let (log, records) = Records::resume(&path).unwrap();
            drop(records);
            let kept = fs::read_to_string(&path).unwrap();
            let whole: usize = 1 + log.blocks.len() * CELLS;
            assert_eq!(kept, lines[..whole].concat(), "cut at {cut}");
        }
    }

    #[test]
    fn foreign_files_are_refused_with_their_line() {
        let (_folder, path, _) = written();
        let text = fs::read_to_string(&path).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        let second = rest.split_once('\n').unwrap().0;
        let figure = second.replace("\"figure\":", "\"figure\":-");
        let arm = second.replace("\"arm\":0", "\"arm\":9");
        let other = second.replace("\"block\":0", "\"block\":1");
        let late = second.replace("\"block\":0", "\"block\":99");
        let block: String = text.split_inclusive('\n').skip(1).take(CELLS).collect();
        let same = format!("{second}\n").repeat(CELLS);
        let many = format!("\"workloads\":[{}]", ["\"bulk\""; 7].join(","));
        let many = first.replace("\"workloads\":[\"requests\"]", &many);
        for (text, words) in [
            (format!("{many}\n"), "2 arms and 7 workloads"),
            (String::new(), "line 1: there is nothing"),
            ("{}\n".into(), "line 1: no record"),
            (format!("{second}\n"), "line 1: the beginning is missing"),
            (format!("{first}\n{first}\n"), "line 2: a second beginning"),
            (format!("{first}\nx\n"), "line 2: no record"),
            (format!("{first}\n{figure}\n"), "line 2: figure -"),
            (format!("{first}\n{arm}\n"), "line 2: a cell of what"),
            (format!("{first}\n{late}\n"), "line 2: a cell of what"),
            (format!("{first}\n{same}"), "line 5: sides in another order"),
            (format!("{first}\n{block}{block}"), "line 9: a block for the second time"),
            (format!("{first}\n{second}\n{other}\n"), "line 3: a cell within another block"),
            (format!("{}\n", first.replace("\"schema\":2", "\"schema\":7")), "schema 7"),
            (format!("{}\n", first.replace(":0.02", ":2.0")), "smallest_effect 2"),
        ] {
            fs::write(&path, &text).unwrap();
            let error = Log::read(&path).unwrap_err().to_string();
            assert!(error.contains(words), "{words}: {error}");
        }
        assert!(Log::read(&path.join("x")).unwrap_err().to_string().contains("run.jsonl"));
    }

    #[test]
    fn a_new_file_needs_a_folder() {
        let (folder, path, _) = written();
        let error = |path: &Path| Records::is_free(path).unwrap_err().to_string();
        let nowhere = folder.path().join("no/x.jsonl");
        let words = format!("{} is no folder within reach", folder.path().join("no").display());
        assert!(error(&nowhere).contains(&words), "{}", error(&nowhere));
        assert!(error(&path.join("x")).contains("is no folder within reach"), "a file is none");
        assert!(error(&path).contains("exists"));
        assert!(Records::is_free(&folder.path().join("x.jsonl")).is_ok());
        assert!(Records::is_free(Path::new("no-such-file-of-ours.jsonl")).is_ok());
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (done, ended) = mpsc::channel();
        thread::spawn(move || {
            let [read, resumed] = [Log::read(&pipe).map(drop), Records::resume(&pipe).map(drop)];
            done.send([read, resumed].map(|it| it.unwrap_err().to_string())).unwrap();
        });
        let errors = ended.recv_timeout(Duration::from_secs(20)).expect("it hangs");
        assert!(errors.iter().all(|error| error.contains("is no regular file")), "{errors:?}");
        let error = Log::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is no regular file"), "{error}");
    }

    #[test]
    fn words_of_a_file_move_no_cursor() {
        let (_folder, path, _) = written();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("it \\\"broke\\\"\\n"), "{text}");
        let hostile = text.replace("\"about\":\"", "\"about\":\"\\u001b[2J");
        fs::write(&path, hostile).unwrap();
        let log = Log::read(&path).unwrap();
        assert!(log.begin.arms.iter().all(|arm| arm.about.starts_with(" [2J")));
        assert_eq!(log.broken[&(1, Workload::Requests)], "it \"broke\" ");
    }

    #[test]
    fn what_others_may_write_is_not_gone_on_with() {
        let (_folder, path, _) = written();
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o664);
        assert!(Records::resume(&path).unwrap_err().to_string().contains("chmod go-w"));
        mode(0o644);
        assert!(Records::resume(&path).is_ok());
    }

    #[test]
    fn a_file_has_one_writer_and_is_never_overwritten() {
        let (_folder, path, log) = written();
        let (_, records) = Records::resume(&path).unwrap();
        let busy = Records::resume(&path).unwrap_err().to_string();
        assert!(busy.contains("another quiclane"), "{busy}");
        drop(records);
        assert!(Records::create(&path, &log.begin).unwrap_err().to_string().contains("exists"));
    }
}

//! engine starts the workers and stops them, in order.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use quiclane_datapath::{Datapath, Epoll, Socket, Uring, UringOptions, Waker};
use quinn_proto::TransportConfig;

use crate::app::App;
use crate::clock::Clock;
use crate::config::{Config, Io, Ring};
use crate::endpoint::{Endpoint, Settings};
use crate::error::{RunError, StartError, SteerError};
use crate::identity::Identity;
use crate::ip::ByVersion;
use crate::keeper::Keeper;
use crate::listen::{Bound, bind};
use crate::metrics::Metrics;
use crate::notices::{Notice, Notices};
use crate::placement;
use crate::plan::{Backend, Plan};
use crate::privileges;
use crate::route::Router;
use crate::steer::{Kernel, Steered, steer};
use crate::toss::Mailboxes;
use crate::transport::{check, transport};
use crate::worker::{Control, Intake, Worker};

/// A running engine. Dropping it without [`join`](Self::join) lets the workers run on.
#[derive(Debug)]
pub struct Engine {
    plan: Plan,
    listen: Vec<SocketAddr>,
    metrics: Arc<Metrics>,
    kernel: Option<Arc<Kernel>>,
    keeper: Option<Keeper>,
    notices: Arc<Notices>,
    stopper: Stopper,
    threads: Vec<JoinHandle<Result<(), RunError>>>,
}

/// What an app factory is told about its worker.
#[derive(Clone, Copy, Debug)]
pub struct WorkerInfo {
    /// 0 to `workers` - 1.
    pub id: usize,
    /// How many there are.
    pub workers: usize,
    /// The core it is pinned to.
    pub core: Option<usize>,
}

/// Stops an engine from any thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    control: Control,
    wakers: Arc<[Waker]>,
}

impl Stopper {
    /// Accepts nothing new, lets open connections finish until `drain` is over, then closes them.
    /// A second call can only shorten the time.
    pub fn stop(&self, drain: Duration) {
        self.control.stop(drain);
        for waker in self.wakers.iter() {
            waker.wake();
        }
    }
}

impl Engine {
    /// Starts the workers; `make` makes the app of each, on its thread.
    ///
    /// # Errors
    /// When the configuration cannot be followed on this host; the message names the remedy.
    pub fn start<A, F>(config: Config, make: F) -> Result<Self, StartError>
    where
        A: App,
        F: Fn(WorkerInfo) -> A + Send + Sync + 'static,
    {
        let mut plan = Plan::resolve(&config)?;
        let transport = transport(&config.transport)?;
        check(&config.limits)?;
        let mut kernel = None;
        let (identity, sockets, listen) = match &config.server {
            Some(server) => {
                let identity = Identity::server(server, &config, plan.workers())?;
                let Bound { sockets, listen } = bind(server, &config.limits, plan.workers())?;
                let facts = identity.facts(plan.cores(), &listen, &sockets, &config.limits);
                let Steered { rung, notes, kernel: programs } =
                    steer(server.steering, &server.xdp, &facts)?;
                let places = programs.as_ref().map(|one| one.places()).unwrap_or_default();
                let places = places.into_iter().map(|one| (one.interface, one.mode)).collect();
                kernel = programs;
                plan.steered(rung.name(), places, notes, identity.epoch, identity.retired());
                note_buffers(&mut plan, &sockets, config.limits.socket_buffer_bytes);
                if server.drop_capabilities {
                    privileges::drop_all()?;
                }
                (identity, sockets, listen)
            }
            None => {
                let identity = Identity::client(config.seed);
                (identity, (0..plan.workers()).map(|_| Vec::new()).collect(), Vec::new())
            }
        };
        let info = vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("io", plan.io().to_owned()),
            ("steering", plan.steering().to_owned()),
        ];
        let launch = Launch {
            plan: &plan,
            config: &config,
            identity: Arc::new(identity),
            transport,
            metrics: Arc::new(Metrics::new(plan.workers(), info, kernel.clone())),
            mailboxes: Mailboxes::new(plan.workers(), config.limits.toss_mailbox),
            control: Control::default(),
        };
        launch.identity.serves();
        let (threads, started) = launch.workers(sockets, Arc::new(make))?;
        let notices = Arc::default();
        let keeper = Keeper::start(&launch.identity, kernel.as_ref(), &notices);
        let (metrics, control) = (launch.metrics, launch.control);
        let (wakers, notes): (Vec<_>, Vec<_>) =
            started.into_iter().map(|Started { waker, note, .. }| (waker, note)).unzip();
        notes.into_iter().flatten().for_each(|note| plan.note(note));
        let stopper = Stopper { control, wakers: wakers.into() };
        Ok(Self { plan, listen, metrics, kernel, keeper, notices, stopper, threads })
    }

    /// The addresses it listens on, with their real ports, in the order of the configuration.
    #[must_use]
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// What it runs with.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Everything it counts.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// What has changed around it since the last call, oldest first: processes of its state
    /// directory that ended, interfaces that went and came back.
    #[must_use]
    pub fn notices(&self) -> Vec<Notice> {
        self.notices.take()
    }

    /// Takes the XDP program off its interfaces: packets take the next rung, and connections go on.
    pub fn detach_xdp(&self) {
        self.kernel.iter().for_each(|kernel| kernel.detach());
    }

    /// Puts the XDP program back on the interfaces that it was on.
    ///
    /// # Errors
    /// When an interface does not take it any more, or the capabilities were dropped.
    pub fn attach_xdp(&self) -> Result<(), SteerError> {
        self.kernel.iter().try_for_each(|kernel| kernel.attach_again())
    }

    /// A handle that stops it from any thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// See [`Stopper::stop`].
    pub fn stop(&self, drain: Duration) {
        self.stopper.stop(drain);
    }

    /// Whether every worker has stopped.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits until every worker has stopped.
    ///
    /// # Errors
    /// When a worker could not go on. It stopped the others then, so this does not wait longer.
    pub fn join(self) -> Result<(), RunError> {
        let outcomes = self
            .threads
            .into_iter()
            .enumerate()
            .map(|(worker, thread)| thread.join().unwrap_or(Err(RunError::Panicked(worker))));
        // All are joined; of several errors the first worker's is as good as any.
        let outcome = outcomes.fold(Ok(()), Result::and);
        if let Some(keeper) = self.keeper {
            keeper.join();
        }
        // Whoever still reads the metrics keeps the programs, but not on the interfaces.
        self.kernel.iter().for_each(|kernel| kernel.detach());
        outcome
    }
}

/// Everything that the workers' threads are made of.
struct Launch<'a> {
    plan: &'a Plan,
    config: &'a Config,
    identity: Arc<Identity>,
    transport: ByVersion<Arc<TransportConfig>>,
    metrics: Arc<Metrics>,
    mailboxes: Mailboxes,
    control: Control,
}

type Threads = Vec<JoinHandle<Result<(), RunError>>>;

impl Launch<'_> {
    /// Starts one thread a worker and waits until each is ready to receive.
    fn workers<A, F>(
        &self,
        sockets: Vec<Vec<Socket>>,
        make: Arc<F>,
    ) -> Result<(Threads, Vec<Started>), StartError>
    where
        A: App,
        F: Fn(WorkerInfo) -> A + Send + Sync + 'static,
    {
        let (ready, started) = mpsc::channel();
        let mut threads = Vec::new();
        let mut failure = None;
        for (id, sockets) in sockets.into_iter().enumerate() {
            let seat = self.seat(id, sockets);
            let (make, ready) = (Arc::clone(&make), ready.clone());
            let thread = std::thread::Builder::new()
                .name(format!("quiclane-{id}"))
                .spawn(move || seat.run(&*make, ready));
            match thread {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    let reason = format!("{error}; raise `ulimit -u` or start fewer workers");
                    failure = Some(StartError::Worker { worker: id, reason });
                    break;
                }
            }
        }
        drop(ready);
        // A worker drops its end once it has reported, or when it panics: this ends.
        let mut ready = Vec::new();
        for report in started {
            match report {
                Ok(one) => ready.push(one),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if failure.is_none() && ready.len() == threads.len() {
            ready.sort_unstable_by_key(|started| started.worker);
            return Ok((threads, ready));
        }
        stop_all(&self.control, &self.mailboxes);
        // Nothing of a start that failed may go on, or hold its addresses, behind the error.
        let panicked = |thread: JoinHandle<_>| thread.join().is_err();
        let panicked: Vec<bool> = threads.into_iter().map(panicked).collect();
        let worker = panicked.iter().position(|panicked| *panicked).unwrap_or(panicked.len());
        let reason = "panicked before it was ready".to_owned();
        Err(failure.unwrap_or(StartError::Worker { worker, reason }))
    }

    #[expect(clippy::cast_possible_truncation, reason = "the plan allows at most 255 workers")]
    fn seat(&self, id: usize, sockets: Vec<Socket>) -> Seat {
        let (worker, workers) = (id as u8, self.plan.workers() as u8);
        Seat {
            info: WorkerInfo { id, workers: self.plan.workers(), core: self.plan.cores()[id] },
            backend: self.plan.backend(),
            may_fall_back: self.config.io == Io::Auto,
            ring: self.config.ring,
            send_slots: self.config.limits.send_slots,
            sockets,
            settings: self.identity.settings(worker, &self.transport, &self.config.limits),
            router: self.identity.router(worker, workers),
            identity: Arc::clone(&self.identity),
            metrics: Arc::clone(&self.metrics),
            mailboxes: self.mailboxes.clone(),
            control: self.control.clone(),
        }
    }
}

/// What one thread takes with it.
struct Seat {
    info: WorkerInfo,
    backend: Backend,
    may_fall_back: bool,
    ring: Ring,
    send_slots: usize,
    sockets: Vec<Socket>,
    settings: Settings,
    router: Router,
    identity: Arc<Identity>,
    metrics: Arc<Metrics>,
    mailboxes: Mailboxes,
    control: Control,
}

type Ready = mpsc::Sender<Result<Started, StartError>>;

/// What a worker reports once it can receive.
struct Started {
    worker: usize,
    waker: Waker,
    note: Option<String>,
}

impl Seat {
    fn run<A: App>(self, make: &impl Fn(WorkerInfo) -> A, ready: Ready) -> Result<(), RunError> {
        if let Some(core) = self.info.core {
            // A core that went offline since the plan was made costs placement, nothing else.
            let _ = placement::pin(core);
        }
        let segments = self.settings.limits.gso_segments;
        let epoll = || {
            let datapath = Epoll::new(self.send_slots).map(|epoll| epoll.with_segments(segments));
            datapath.map_err(StartError::from)
        };
        match self.backend {
            Backend::Uring => {
                let Ring { mode, receive_buffers } = self.ring;
                let usual = if self.sockets.is_empty() { CLIENT_BUFFERS } else { SERVER_BUFFERS };
                let recv_buffers = receive_buffers.unwrap_or(usual);
                let options = UringOptions { send_slots: self.send_slots, recv_buffers, mode };
                match Uring::new(&options) {
                    // The probe made one small ring; many workers can still exceed a limit.
                    Err(error) if self.may_fall_back => {
                        let note = format!("worker {}: {error}; using epoll", self.info.id);
                        let datapath = epoll();
                        self.drive(datapath, make, ready, Some(note))
                    }
                    datapath => {
                        let datapath = datapath.map(|uring| uring.with_segments(segments));
                        self.drive(datapath.map_err(StartError::from), make, ready, None)
                    }
                }
            }
            Backend::Epoll => {
                let datapath = epoll();
                self.drive(datapath, make, ready, None)
            }
        }
    }

    fn drive<D: Datapath, A: App>(
        self,
        datapath: Result<D, StartError>,
        make: &impl Fn(WorkerInfo) -> A,
        ready: Ready,
        note: Option<String>,
    ) -> Result<(), RunError> {
        let id = self.info.id;
        // Whoever waits on `ready` may be gone only if another worker failed: then we stop too.
        let (mut datapath, listeners) = match datapath.and_then(|d| adopt(d, self.sockets)) {
            Ok(adopted) => adopted,
            Err(error) => {
                let _ = ready.send(Err(error));
                return Ok(());
            }
        };
        let counters = self.metrics.worker(id);
        self.metrics.register_datapath(id, Arc::clone(datapath.counters()));
        let endpoint = Endpoint::new(self.settings, Arc::clone(&counters));
        let worker_id = u8::try_from(id).unwrap_or(u8::MAX);
        let mailboxes = self.mailboxes.clone();
        let intake = Intake::new(worker_id, self.router, mailboxes, listeners, counters);
        let waker = datapath.waker();
        datapath.flush();
        let app = make(self.info);
        let mut worker =
            Worker::new(datapath, app, Clock::System, endpoint, intake, self.control.clone());
        let _ = ready.send(Ok(Started { worker: id, waker, note }));
        drop(ready);
        let identity = self.identity;
        let mut alarm = Alarm { control: self.control, mailboxes: self.mailboxes, armed: true };
        while worker.turn().map_err(|source| RunError::Wait { worker: id, source })? {}
        alarm.armed = false;
        drop(worker);
        drop(identity); // the epoch's lock is freed when the last worker has gone
        Ok(())
    }
}

/// Stops every worker when the one that holds it fails or panics: clients of a worker that is
/// gone would wait for answers that never come, while its siblings look healthy.
struct Alarm {
    control: Control,
    mailboxes: Mailboxes,
    armed: bool,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.armed {
            stop_all(&self.control, &self.mailboxes);
        }
    }
}

/// Stops all workers at once. One that is not in its loop yet looks before it waits.
fn stop_all(control: &Control, mailboxes: &Mailboxes) {
    control.stop(Duration::ZERO);
    mailboxes.wake_all();
}

fn adopt<D: Datapath>(
    mut datapath: D,
    sockets: Vec<Socket>,
) -> Result<(D, Vec<quiclane_datapath::SocketId>), StartError> {
    let mut listeners = Vec::with_capacity(sockets.len());
    for socket in sockets {
        let address = socket.local_addr();
        let id = datapath.adopt(socket).map_err(|source| StartError::Listen { address, source })?;
        listeners.push(id);
    }
    Ok((datapath, listeners))
}

fn note_buffers(plan: &mut Plan, sockets: &[Vec<Socket>], wanted: usize) {
    let got = sockets.iter().flatten().map(Socket::recv_buffer_bytes).min().unwrap_or(wanted);
    if got < wanted {
        plan.note(format!(
            "socket buffers: {got} of {wanted} bytes; run with CAP_NET_ADMIN or \
             sysctl -w net.core.rmem_max={wanted}"
        ));
    }
}

/// Receive buffers of a server's io_uring. The ring is first in, first out, so every one of them
/// passes through the cache: 8 full trains are half a megabyte and stay in it. With 32 an upload
/// cost 18 % more CPU; fewer end the multishot receive at every turn.
const SERVER_BUFFERS: u16 = 8;
/// A client has a socket for each connection, and all of them share the buffers.
const CLIENT_BUFFERS: u16 = 32;

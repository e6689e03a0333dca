//! What is measured: one entry per table, with the client's arguments.

use crate::args::{Args, Mode};

/// One kind of work and what its table is called.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// Short name, for progress and JSON.
    pub(crate) name: &'static str,
    /// Heading of the table.
    pub(crate) title: String,
    /// Arguments of the client.
    pub(crate) args: Vec<String>,
}

/// The tables asked for.
pub(crate) fn works(args: &Args) -> Vec<Work> {
    args.modes.iter().flat_map(|mode| of_mode(*mode, args)).collect()
}

fn of_mode(mode: Mode, args: &Args) -> Vec<Work> {
    let bulk = ["--warm-up", &args.warm_up, &args.bulk];
    let timed = |in_flight: &'static str| {
        ["--in-flight", in_flight, "--settle", &args.settle, "--measure", &args.measure]
    };
    let requests = "1 KiB requests, 1 KiB answers";
    match mode {
        Mode::Download => {
            let title = format!("Download {}, 1 connection", args.bulk);
            vec![Work::new("download", title, "download", &bulk)]
        }
        Mode::Upload => {
            let title = format!("Upload {}, 1 connection", args.bulk);
            vec![Work::new("upload", title, "upload", &bulk)]
        }
        Mode::Requests => vec![
            Work::new(
                "requests-16",
                format!("{requests}, 16 in flight in all over 10 connections"),
                "requests",
                &timed("16"),
            ),
            Work::new(
                "requests-640",
                format!("{requests}, 64 in flight on each of 10 connections"),
                "requests",
                &timed("640"),
            ),
        ],
        Mode::Handshakes => {
            let title = "Full handshakes (connect, one tiny request, close), 32 in flight";
            vec![Work::new("handshakes", title.to_owned(), "handshakes", &timed("32"))]
        }
    }
}

impl Work {
    fn new(name: &'static str, title: String, mode: &str, args: &[&str]) -> Self {
        let args = std::iter::once(&mode).chain(args).map(|&arg| arg.to_owned()).collect();
        Self { name, title, args }
    }
}

//! `trestle lab stretch`: a stretched cluster on one machine, its WAN, a load, and things that go wrong.
//!
//! A tool, not a part of the server: threads and blocking sockets, and nothing of the server's own code but the client
//! protocol's parser. It starts the server as anybody would, by its command line, and talks to it as a stock client.
//!
//! ```text
//!   main thread   starts and kills servers (cluster), plays the story (play), checks at the end (reader, ledger)
//!   load          one publisher per data center, one consumer
//!   watch         health pages and STREAM.INFO, onto the board
//!   screen        board ──► terminal; keys ──► main thread
//!   wan           relays between the data centers
//! ```

mod board;
mod client;
mod cluster;
mod files;
mod ledger;
mod load;
mod options;
mod play;
mod reader;
mod screen;
mod story;
pub mod wan;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use board::{Board, Latency};
use client::{APP, Client};
use cluster::Cluster;
use ledger::Verdict;
use load::Load;
use options::{HELP, Options};
use play::Play;
use screen::{Keys, Screen};

/// Until all six servers say that they are healthy. Seconds on a quiet machine; a debug build on a busy one takes longer.
const READY_PATIENCE: Duration = Duration::from_secs(90);

/// For the stream and its consumer, whose groups must first elect.
const CREATE_PATIENCE: Duration = Duration::from_secs(20);

/// For the consumer to see what is left when the load is over.
const CONSUME_PATIENCE: Duration = Duration::from_secs(30);

const EXIT_INTERRUPTED: i32 = 130;

/// The words after `lab`; the process's exit code.
pub fn run(words: &[String]) -> i32 {
    let options = match words {
        [first, rest @ ..] if first == "stretch" => Options::parse(rest),
        [first, rest @ ..] if first == "server" => return cluster::become_server(rest),
        [] => Ok(None),
        [first, ..] if ["-h", "--help", "help"].contains(&first.as_str()) => Ok(None),
        [first, ..] => Err(format!("there is no lab {first:?}; there is: lab stretch")),
    };
    match options {
        Ok(Some(options)) => Lab::open(options).map_or_else(|why| refuse(&why), Lab::run),
        Ok(None) => {
            print!("{HELP}");
            0
        }
        Err(why) => refuse(&format!("{why}\n`trestle lab --help` explains")),
    }
}

fn refuse(why: &str) -> i32 {
    eprintln!("lab: {why}");
    1
}

struct Lab {
    options: Options,
    folder: Folder,
    cluster: Cluster,
    board: Arc<Board>,
    /// A terminal with keys.
    terminal: bool,
}

impl Lab {
    fn open(options: Options) -> Result<Lab, String> {
        // Before any thread starts: later ones inherit it.
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        signals.thread_block().map_err(|e| format!("signals cannot be blocked: {e}"))?;
        let terminal = screen::has_terminal();
        let folder = Folder::open(&options)?;
        let cluster = Cluster::prepare(&options, &folder.path, !terminal)?;
        cluster.check(&options.script)?;
        let board = cluster.board();
        catch_signals(&board, signals);
        Ok(Lab { options, folder, cluster, board, terminal })
    }

    fn run(mut self) -> i32 {
        let result = self.start().and_then(|()| self.show());
        let code = match result {
            _ if self.board.stopping() => EXIT_INTERRUPTED,
            Ok(good) => i32::from(!good),
            Err(why) => refuse(&why),
        };
        if self.options.keep && !self.board.stopping() {
            println!("The servers keep running until Ctrl-C.");
            self.board.wait(Duration::MAX / 4, || {
                self.cluster.reap().iter().for_each(|obituary| println!("{obituary}"));
                false
            });
        }
        self.cluster.stop_all();
        code
    }

    /// Six servers that are ready.
    fn start(&mut self) -> Result<(), String> {
        let weather = weather_text(&self.options);
        let servers = self.cluster.servers.len();
        println!(
            "{servers} servers in {} data centers, {weather}. Data and logs: {}",
            self.board.dcs.len(),
            self.folder.path.display()
        );
        for at in 0..servers {
            self.cluster.start(at)?;
        }
        watch::start(&self.board, self.cluster.pages());
        let board = self.board.clone();
        let mut dead = Vec::new();
        let ready = board.wait(READY_PATIENCE, || {
            dead = self.cluster.reap();
            !dead.is_empty() || board.facts().servers.iter().all(|server| server.healthy)
        });
        if let Some(obituary) = dead.into_iter().next() {
            return Err(obituary);
        }
        if !ready {
            return Err(self.not_ready());
        }
        println!("Ready after {:.1}s.\n", board.started.elapsed().as_secs_f64());
        print!("{}", self.how_to_reach());
        Ok(())
    }

    fn not_ready(&self) -> String {
        let mut text = format!("not ready after {READY_PATIENCE:?}\n");
        let facts = self.board.facts();
        for (server, seen) in self.cluster.servers.iter().zip(&facts.servers).filter(|(_, seen)| !seen.healthy) {
            text.push_str(&format!("{}: {}; its log ends:\n{}", server.name, seen.complaint, server.log_tail()));
        }
        text
    }

    fn how_to_reach(&self) -> String {
        let mut text = String::new();
        for dc in &self.board.dcs {
            let here = self.board.places.iter().filter(|place| place.dc == *dc);
            let each: Vec<String> = here.map(|place| format!("{} nats://{}", place.name, place.client)).collect();
            text.push_str(&format!("  dc {dc}: {}\n", each.join("  ")));
        }
        let first = self.board.places[0].client;
        text.push_str(&format!(
            "In another terminal:\n  \
             nats context add lab       --server {first} --user acc1  --password password\n  \
             nats context add lab:admin --server {first} --user admin --password admin\n  \
             nats --context lab stream report\n  \
             nats --context lab:admin server report jetstream\n\n"
        ));
        text
    }

    /// Load, story, check. `Ok(true)` when all is as it must be.
    fn show(&mut self) -> Result<bool, String> {
        let first = self.create()?;
        if self.options.rate == 0 && self.options.script.is_empty() && self.options.seconds.is_none() {
            return Ok(true);
        }
        let (send, keys) = channel();
        let restore = if self.terminal { Keys::start(send) } else { None };
        let title = format!("Trestle lab: stretch, {}", weather_text(&self.options));
        let screen = Screen::start(&self.board, title);
        let outcome = self.load_and_story(first, &keys);
        screen.end();
        drop(restore);
        let (verdict, failures) = outcome?;
        Ok(self.report(&verdict, failures))
    }

    /// The stream and its consumer; the last sequence before the load.
    fn create(&self) -> Result<u64, String> {
        let deadline = Instant::now() + CREATE_PATIENCE;
        loop {
            let addr = self.board.places[0].client;
            let created = Client::connect(addr, APP, "lab").map_err(|e| e.to_string()).and_then(|mut client| {
                let first = load::create_stream(&mut client, Duration::from_secs(5))?;
                reader::create_consumer(&mut client, first).map_err(|e| e.to_string())?;
                Ok(first)
            });
            match created {
                Ok(first) => return Ok(first),
                Err(why) if Instant::now() > deadline || self.board.stopping() => return Err(why),
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    fn load_and_story(&mut self, first: u64, keys: &Receiver<u8>) -> Result<(Verdict, u32), String> {
        let board = self.board.clone();
        let run = format!("{:08x}", std::process::id() ^ board.started.elapsed().subsec_nanos());
        board.phase("publishing and consuming");
        let reader = reader::start(&board, first);
        let load = (self.options.rate > 0).then(|| Load::start(&board, &self.options, &run));
        let failures = self.story(keys);
        if board.stopping() {
            return Err("interrupted".into());
        }
        board.load_over.store(true, Ordering::Relaxed);
        board.phase("the load is over: waiting for what is under way, and for all replicas");
        let mut play = Play::new(&mut self.cluster, load.is_some());
        let mended = play.mend();
        let failures = failures + play.failures + u32::from(!mended);
        if !mended {
            board.tell("not all servers and replicas came back");
        }
        let ledger = load.map(Load::finish).unwrap_or_default();
        let unseen = self.wait_for_reader(&ledger);
        board.publishers_done.store(true, Ordering::Relaxed);
        // It panics only by a bug of ours, which has said so on its way.
        let _ = reader.join();
        board.phase("reading everything back");
        let verdict = reader::read_back(&board, &ledger, self.options.size_bytes, first)?;
        Ok((verdict, failures + unseen))
    }

    /// The script, then whatever keys ask for, until the time is over.
    fn story(&mut self, keys: &Receiver<u8>) -> u32 {
        let seconds = self.options.load_seconds(self.terminal);
        let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let script = self.options.script.clone();
        let board = self.board.clone();
        let mut play = Play::new(&mut self.cluster, self.options.rate > 0);
        if !script.is_empty() {
            play.idle(Duration::from_secs(1));
        }
        for action in &script {
            if board.stopping() || keys.try_iter().any(|key| key == b'q') {
                return play.failures;
            }
            play.perform(action);
        }
        while end.is_none_or(|end| Instant::now() < end) && !board.stopping() {
            match keys.try_recv() {
                Ok(b'q') => break,
                Ok(key) => drop(story::of_key(key).map(|action| play.perform(&action))),
                Err(_) => play.idle(Duration::from_millis(50)),
            }
        }
        play.failures
    }

    /// The durable consumer must see everything that was acknowledged; 1 when it does not.
    fn wait_for_reader(&self, ledger: &ledger::Ledger) -> u32 {
        let last = ledger.acked.iter().filter_map(|lane| lane.iter().max()).max().copied().unwrap_or(0);
        let board = &self.board;
        if board.wait(CONSUME_PATIENCE, || board.facts().reading.floor >= last) {
            return 0;
        }
        let floor = board.facts().reading.floor;
        board.tell(format!("the consumer has seen all only up to sequence {floor} of {last}"));
        1
    }

    fn report(&self, verdict: &Verdict, failures: u32) -> bool {
        let facts = self.board.facts();
        let latency = Latency::of(facts.meters.iter().map(|meter| &meter.total)).unwrap_or_default();
        let retries: u64 = facts.meters.iter().map(|meter| meter.retries).sum();
        println!();
        println!("ack p50 {}  p99 {}  repeated {retries}", screen::millis(latency.p50), screen::millis(latency.p99));
        println!("consumed {}  redelivered {}", facts.reading.seen, facts.reading.redelivered);
        verdict.examples.iter().for_each(|example| println!("  {example}"));
        println!("{verdict}");
        if failures > 0 {
            println!("{failures} thing(s) did not happen as they should: see above");
        }
        verdict.is_good() && failures == 0
    }
}

fn weather_text(options: &Options) -> String {
    let mut text = format!("a WAN of {} round trip", screen::millis(options.rtt));
    if !options.jitter.is_zero() {
        text.push_str(&format!(", jitter {}", screen::millis(options.jitter)));
    }
    if options.loss > 0.0 {
        text.push_str(&format!(", {}% loss", options.loss * 100.0));
    }
    text
}

/// Where data, logs and copies are; a temporary one goes at the end.
struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Folder {
    fn open(options: &Options) -> Result<Folder, String> {
        let temporary = || std::env::temp_dir().join(format!("trestle-lab-{}", std::process::id()));
        let path = options.dir.clone().unwrap_or_else(temporary);
        std::fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let path = path.canonicalize().map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Folder { path, temporary: options.dir.is_none() })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.temporary {
            return;
        }
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("lab: {} could not be removed: {error}", self.path.display());
        }
    }
}

/// INT, TERM and HUP end the lab in good order; the second one at once (the servers die with it).
fn catch_signals(board: &Arc<Board>, signals: SigSet) {
    let board = board.clone();
    std::thread::spawn(move || {
        while signals.wait().is_ok() {
            if board.stop.swap(true, Ordering::Relaxed) {
                std::process::exit(EXIT_INTERRUPTED);
            }
        }
    });
}

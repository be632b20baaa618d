//! What a person sees: a picture in the terminal, or plain lines where there is none.

use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use super::board::{Board, Facts, Latency, Place, ServerFacts};

/// Fast enough to look alive, slow enough to read.
const REDRAW_EVERY: Duration = Duration::from_millis(250);

/// Lines of events in the picture.
const EVENTS_SHOWN: usize = 8;

const HELP_LINE: &str =
    "k kill leader   s step down   r restart   p partition dc 1   h heal   q finish and check   Ctrl-C stop";

/// A terminal that sends keys at once, until this is dropped.
pub struct Keys {
    before: Termios,
}

pub fn has_terminal() -> bool {
    std::io::stdout().is_terminal() && std::io::stdin().is_terminal()
}

impl Keys {
    /// Switches the terminal and sends its keys to `send`.
    pub fn start(send: Sender<u8>) -> Option<Keys> {
        let stdin = std::io::stdin();
        let before = tcgetattr(stdin.as_fd()).ok()?;
        let mut raw = before.clone();
        // Ctrl-C stays a signal.
        raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &raw).ok()?;
        std::thread::spawn(move || {
            let mut key = [0];
            while std::io::stdin().read_exact(&mut key).is_ok() && send.send(key[0]).is_ok() {}
        });
        Some(Keys { before })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // The terminal may be gone; then nobody minds.
        let _ = tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, &self.before);
    }
}

/// Tells what goes on until `Screen::end`.
pub struct Screen {
    board: Arc<Board>,
    over: Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Screen {
    pub fn start(board: &Arc<Board>, title: String) -> Screen {
        let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (told, ended) = (board.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            let mut pace = Pace::default();
            if !told.plain {
                print!("\x1b[?1049h\x1b[?25l");
            }
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                if told.plain {
                    pace.line(&told)
                } else {
                    pace.picture(&told, &title)
                }
                std::thread::sleep(REDRAW_EVERY);
            }
            if !told.plain {
                print!("\x1b[?25h\x1b[?1049l");
                let _ = std::io::stdout().flush();
            }
        });
        Screen { board: board.clone(), over, thread: Some(thread) }
    }

    /// Leaves the picture; what happened meanwhile is printed where it stays.
    pub fn end(mut self) {
        self.over.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if !self.board.plain {
            for (at, text) in &self.board.facts().events {
                println!("[{:6.1}s] {text}", at.as_secs_f64());
            }
        }
    }
}

/// Rates, from one look to the next.
#[derive(Default)]
struct Pace {
    at: Option<Instant>,
    acked: u64,
    seen: u64,
    publish_rate: f64,
    consume_rate: f64,
    latency: Option<Latency>,
}

impl Pace {
    /// Takes the figures of the last second, once a second; true when it did.
    fn tick(&mut self, facts: &mut Facts) -> bool {
        let Some(at) = self.at else {
            (self.at, self.acked, self.seen) = (Some(Instant::now()), facts.acked(), facts.reading.seen);
            return false;
        };
        let seconds = at.elapsed().as_secs_f64();
        if seconds < 1.0 {
            return false;
        }
        self.publish_rate = (facts.acked() - self.acked) as f64 / seconds;
        self.consume_rate = (facts.reading.seen - self.seen) as f64 / seconds;
        self.latency = facts.take_recent();
        (self.at, self.acked, self.seen) = (Some(Instant::now()), facts.acked(), facts.reading.seen);
        true
    }

    fn latency_text(&self) -> String {
        match self.latency {
            Some(latency) => format!("p50 {} p99 {}", millis(latency.p50), millis(latency.p99)),
            None => "p50 - p99 -".into(),
        }
    }

    /// One line a second.
    fn line(&mut self, board: &Board) {
        let facts = &mut *board.facts();
        if !self.tick(facts) {
            return;
        }
        let at = board.started.elapsed().as_secs_f64();
        println!(
            "[{at:6.1}s] publish {:.0}/s {}  acked {}  consumed {}  {}",
            self.publish_rate,
            self.latency_text(),
            facts.acked(),
            facts.reading.seen,
            stream_text(board, facts),
        );
    }

    fn picture(&mut self, board: &Board, title: &str) {
        let facts = &mut *board.facts();
        self.tick(facts);
        let text = self.draw(board, facts, title);
        // Each line clears what was behind it, the last one what was below: nothing flickers.
        let text = text.replace('\n', "\x1b[K\r\n");
        print!("\x1b[H{text}\x1b[J");
        let _ = std::io::stdout().flush();
    }

    fn draw(&self, board: &Board, facts: &Facts, title: &str) -> String {
        let in_flight: usize = facts.meters.iter().map(|meter| meter.in_flight).sum();
        let retries: u64 = facts.meters.iter().map(|meter| meter.retries).sum();
        let mut text = format!("{title}   {:.0}s   {}\n\n", board.started.elapsed().as_secs_f64(), facts.phase);
        for dc in &board.dcs {
            let here = || board.places.iter().zip(&facts.servers).filter(|(place, _)| place.dc == *dc);
            let up = here().any(|(_, server)| server.running);
            let state = match (board.wan.is_cut(), up) {
                (_, false) => "down",
                (true, true) => "cut off",
                (false, true) => "up",
            };
            text.push_str(&format!("dc {dc}  {state}\n"));
            for (place, server) in here() {
                let line = format!("    {:<8} {:<9} {}", place.name, state_of(server), role(board, facts, place));
                text.push_str(line.trim_end());
                text.push('\n');
            }
        }
        text.push_str(&format!(
            "\npublish  {:>6.0}/s   ack {}   acknowledged {}   under way {in_flight}   repeated {retries}\n",
            self.publish_rate,
            self.latency_text(),
            facts.acked(),
        ));
        text.push_str(&format!(
            "consume  {:>6.0}/s   seen {}   redelivered {}\n\n",
            self.consume_rate, facts.reading.seen, facts.reading.redelivered
        ));
        for (at, event) in &facts.events[facts.events.len().saturating_sub(EVENTS_SHOWN)..] {
            text.push_str(&format!("[{:6.1}s] {}\n", at.as_secs_f64(), event.lines().next().unwrap_or("")));
        }
        text.push_str(&format!("\n{HELP_LINE}"));
        text
    }
}

fn state_of(server: &ServerFacts) -> &'static str {
    match (server.running, server.healthy) {
        (false, _) => "DOWN",
        (true, true) => "up",
        (true, false) => "not ready",
    }
}

fn role(board: &Board, facts: &Facts, place: &Place) -> String {
    let Some(view) = facts.view() else { return String::new() };
    if view.leader.as_deref() == Some(place.name.as_str()) {
        return "leads LAB".into();
    }
    match view.replicas.iter().find(|replica| replica.name == place.name) {
        Some(replica) if replica.keeps_up(board.under_way()) => "replica, current".into(),
        Some(replica) if replica.lag > 0 => format!("replica, {} behind", replica.lag),
        Some(_) => "replica, behind".into(),
        None => String::new(),
    }
}

/// `leader us_1  us_2 current  emea_1 -12  down: us_3`
fn stream_text(board: &Board, facts: &Facts) -> String {
    let mut text = match facts.leader() {
        Some(leader) => format!("leader {leader}"),
        None => "no leader".into(),
    };
    for replica in facts.view().into_iter().flat_map(|view| &view.replicas) {
        let state = if replica.keeps_up(board.under_way()) {
            "current".into()
        } else if replica.lag > 0 {
            format!("-{}", replica.lag)
        } else {
            "behind".into()
        };
        text.push_str(&format!("  {} {state}", replica.name));
    }
    let down: Vec<&str> = board
        .places
        .iter()
        .zip(&facts.servers)
        .filter(|(_, server)| !server.running)
        .map(|(place, _)| place.name.as_str())
        .collect();
    if !down.is_empty() {
        text.push_str(&format!("  down: {}", down.join(" ")));
    }
    if board.wan.is_cut() {
        text.push_str("  WAN cut");
    }
    text
}

pub fn millis(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 1000.0 { format!("{ms:.1}ms") } else { format!("{:.2}s", ms / 1e3) }
}

#[cfg(test)]
mod tests {
    use super::super::board::{Replica, StreamView};
    use super::super::wan::{Wan, Weather};
    use super::*;

    #[test]
    fn the_picture_shows_who_leads_who_lags_and_what_is_down() {
        let place = |name: &str, dc| Place { name: name.into(), dc, client: "127.0.0.1:1".parse().unwrap() };
        let board =
            Board::new(vec![place("a", 1), place("b", 1), place("c", 2)], Wan::new(Weather::default()), 5, false);
        let replica = |name: &str, current, lag| Replica { name: name.into(), current, offline: false, lag };
        let replicas = vec![replica("b", false, 7), replica("c", true, 0)];
        let mut facts = board.facts();
        facts.see(1, StreamView { leader: Some("a".into()), replicas, messages: 1 });
        facts.servers[0] = ServerFacts { running: true, healthy: true, complaint: String::new() };
        facts.servers[1] = ServerFacts { running: true, healthy: false, complaint: "503".into() };
        let picture = Pace::default().draw(&board, &facts, "Lab");
        for line in [
            "dc 1  up",
            "    a        up        leads LAB",
            "    b        not ready replica, 7 behind",
            "dc 2  down",
            "    c        DOWN      replica, current",
            HELP_LINE,
        ] {
            assert!(picture.lines().any(|shown| shown == line), "{line:?} in\n{picture}");
        }
        assert_eq!(stream_text(&board, &facts), "leader a  b -7  c current  down: c");
    }

    #[test]
    fn times_are_short() {
        assert_eq!(millis(Duration::from_micros(21_340)), "21.3ms");
        assert_eq!(millis(Duration::from_millis(1_500)), "1.50s");
    }
}

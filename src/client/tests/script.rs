//! Reads `testdata/sessions.txt` and plays its sessions against anything that has clients.

use std::collections::{BTreeMap, VecDeque};

/// One session.
pub struct Session {
    pub name: String,
    pub config: String,
    pub steps: Vec<Step>,
}

/// What happens next, to the client of that letter.
#[derive(Debug)]
pub enum Step {
    /// Bytes are sent.
    Send(char, String),
    /// This line is received.
    Line(char, String),
    /// The server has closed the connection.
    Closed(char),
}

impl Step {
    fn client(&self) -> char {
        match self {
            Step::Send(client, _) | Step::Line(client, _) | Step::Closed(client) => *client,
        }
    }
}

/// Who is asked to play a session.
pub trait Stage {
    /// A client connects, its first INFO is read away.
    fn connect(&mut self, client: char);
    fn send(&mut self, client: char, text: &str);
    /// The next line, without its end; `None` when the connection is closed or nothing comes.
    fn line(&mut self, client: char) -> Option<String>;
    fn closed(&mut self, client: char) -> bool;
}

pub fn sessions() -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    for line in include_str!("../testdata/sessions.txt").lines() {
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        if let Some(name) = line.strip_prefix("session ") {
            sessions.push(Session { name: name.to_string(), config: String::new(), steps: Vec::new() });
            continue;
        }
        let session = sessions.last_mut().expect("a session begins the file");
        if let Some(config) = line.strip_prefix("config ") {
            session.config.push_str(config);
            session.config.push('\n');
            continue;
        }
        session.steps.push(step(line));
    }
    sessions
}

fn step(line: &str) -> Step {
    let client = line.chars().next().expect("not empty");
    let text = line.get(3..).unwrap_or_default().replace("\\t", "\t");
    match &line[1..2] {
        ">" => Step::Send(client, text + "\r\n"),
        "+" => Step::Send(client, text),
        "<" => Step::Line(client, text),
        "." => Step::Closed(client),
        other => panic!("no step begins with {other:?}: {line}"),
    }
}

/// Plays a session; the error says at which step it went another way.
pub fn play(session: &Session, stage: &mut dyn Stage) -> Result<(), String> {
    let mut player = Player { stage, early: BTreeMap::new(), present: Vec::new(), gone: Vec::new() };
    // What is sent in one go: the peer answers a bad line twice when its payload comes in another piece.
    let mut batch = String::new();
    for (at, step) in session.steps.iter().enumerate() {
        let next = session.steps.get(at + 1);
        let goes_on = next.is_some_and(|next| matches!(next, Step::Send(..)) && next.client() == step.client());
        let other_next = next.is_some_and(|next| next.client() != step.client());
        player
            .step(step, &mut batch, goes_on, other_next)
            .map_err(|what| format!("session {:?}, step {at} {step:?}: {what}", session.name))?;
    }
    player.end().map_err(|what| format!("session {:?}, at the end: {what}", session.name))
}

struct Player<'a> {
    stage: &'a mut dyn Stage,
    /// Lines that came while the end of a client's work was waited for.
    early: BTreeMap<char, VecDeque<String>>,
    /// Clients that have connected, and whether they have said CONNECT.
    present: Vec<(char, bool)>,
    gone: Vec<char>,
}

impl Player<'_> {
    fn step(&mut self, step: &Step, batch: &mut String, goes_on: bool, other_next: bool) -> Result<(), String> {
        let client = step.client();
        if !self.present.iter().any(|(other, _)| *other == client) {
            self.present.push((client, false));
            self.stage.connect(client);
        }
        match step {
            Step::Send(_, text) => {
                batch.push_str(text);
                if text.to_ascii_lowercase().starts_with("connect") {
                    self.present.iter_mut().filter(|(other, _)| *other == client).for_each(|(_, said)| *said = true);
                }
                if !goes_on {
                    self.stage.send(client, &std::mem::take(batch));
                }
                if other_next {
                    self.fence(client);
                }
            }
            Step::Line(_, expected) => match self.line(client) {
                Some(line) if line == *expected => {}
                other => return Err(format!("received {other:?}")),
            },
            Step::Closed(_) if self.line(client).is_none() && self.stage.closed(client) => self.gone.push(client),
            Step::Closed(_) => return Err("still open".to_string()),
        }
        Ok(())
    }

    /// Another client's next step must find this one's work done: what it sent is answered before a PING is.
    fn fence(&mut self, client: char) {
        if !self.present.contains(&(client, true)) {
            return;
        }
        self.stage.send(client, "PING\r\n");
        while let Some(line) = self.stage.line(client).filter(|line| line != "PONG") {
            self.early.entry(client).or_default().push_back(line);
        }
    }

    fn line(&mut self, client: char) -> Option<String> {
        let early = self.early.get_mut(&client).and_then(VecDeque::pop_front);
        early.or_else(|| self.stage.line(client))
    }

    /// Nobody has received more than was listed.
    fn end(&mut self) -> Result<(), String> {
        for (client, _) in self.present.clone() {
            if self.gone.contains(&client) {
                continue;
            }
            self.stage.send(client, "PING\r\n");
            match self.line(client).as_deref() {
                Some("PONG") => {}
                other => return Err(format!("{client} received {other:?}")),
            }
        }
        Ok(())
    }
}

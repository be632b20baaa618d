//! Drives `nats bench` and reads what it prints.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::fleet::Fleet;
use crate::row::Figures;

/// A run of the stock tool against a server.
pub struct Bench<'a> {
    pub url: &'a str,
    /// `js pub async` and so on.
    pub words: &'a str,
    pub subject: &'a str,
    pub messages: u64,
    /// More flags.
    pub flags: &'a [&'a str],
}

/// What the tool said.
#[derive(Debug, Clone, Copy)]
pub struct Said {
    /// Messages a second.
    pub rate: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

impl Bench<'_> {
    /// Runs it while the servers' processor time is watched.
    pub fn run(&self, fleet: &Fleet) -> Result<Figures, String> {
        let before = fleet.cpu();
        let said = finish(self.spawn()?)?;
        let used = fleet.cpu().saturating_sub(before);
        Ok(figures(said, used, self.messages))
    }

    pub fn spawn(&self) -> Result<Child, String> {
        let mut command = Command::new("nats");
        command.args(["-s", self.url, "bench"]).args(self.words.split(' ')).arg(self.subject);
        command.args(["--no-progress", "--msgs", &self.messages.to_string()]);
        command.args(self.flags).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(|e| format!("cannot start nats: {e}"))
    }
}

pub fn figures(said: Said, used: Duration, messages: u64) -> Figures {
    Figures {
        rate: Some(said.rate),
        p50_us: Some(said.p50_us).filter(|us| *us > 0.0),
        p99_us: Some(said.p99_us).filter(|us| *us > 0.0),
        cpu_us: Some(used.as_secs_f64() * 1e6 / messages as f64),
        ..Figures::default()
    }
}

/// Waits for the end; the sum of what it says if it ran several clients.
pub fn finish(child: Child) -> Result<Said, String> {
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = || format!("nats bench: {}{text}", String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return Err(complaint());
    }
    let line = text.lines().rfind(|line| line.contains("stats:")).ok_or_else(complaint)?;
    let rate = number_before(line, " msgs/sec").ok_or_else(complaint)?;
    let after = |label| number_after(line, label).unwrap_or(0.0);
    Ok(Said { rate, p50_us: after("P50: "), p99_us: after("P99: ") })
}

fn number_before(line: &str, label: &str) -> Option<f64> {
    let (front, _) = line.split_once(label)?;
    parse(front.rsplit(' ').next()?)
}

fn number_after(line: &str, label: &str) -> Option<f64> {
    let (_, rest) = line.split_once(label)?;
    parse(rest.split("us").next()?)
}

fn parse(text: &str) -> Option<f64> {
    text.trim().replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tool_s_line_is_read() {
        let line = "NATS JetStream asynchronous publisher stats: 65,601 msgs/sec ~ 8.0 MiB/sec ~ min: 2,630.41us ~ \
                    avg: 7,612.99us ~ P50: 6,843.84us ~ P99: 18,531.78us ~ P99.9: 24,036.08us";
        assert_eq!(number_before(line, " msgs/sec"), Some(65601.0));
        assert_eq!(number_after(line, "P50: "), Some(6843.84));
        assert_eq!(number_after(line, "P99: "), Some(18531.78));
    }
}

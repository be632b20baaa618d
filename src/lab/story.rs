//! What may happen in a lab, as words: the script of `--script` and the keys of the terminal.

use std::fmt;
use std::time::Duration;

/// Actions of one script; each takes seconds, so more would be a mistake.
const ACTIONS_MAX: usize = 1000;

/// A partition that ends before anybody noticed it shows nothing: links give up on a silent peer after about a second.
pub const PARTITION_HOLD: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    KillLeader,
    Kill(String),
    KillDc(u32),
    Stop(String),
    /// All that is down; or that one, down or not.
    Restart(Option<String>),
    PartitionDc(u32),
    Heal,
    Wait(Duration),
    Stepdown,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::KillLeader => f.write_str("kill-leader"),
            Action::Kill(name) => write!(f, "kill:{name}"),
            Action::KillDc(dc) => write!(f, "kill-dc:{dc}"),
            Action::Stop(name) => write!(f, "stop:{name}"),
            Action::Restart(None) => f.write_str("restart"),
            Action::Restart(Some(name)) => write!(f, "restart:{name}"),
            Action::PartitionDc(dc) => write!(f, "partition-dc:{dc}"),
            Action::Heal => f.write_str("heal"),
            Action::Wait(time) => write!(f, "wait:{}", time.as_secs_f64()),
            Action::Stepdown => f.write_str("stepdown"),
        }
    }
}

/// `kill-leader,restart,partition-dc:1,heal`
pub fn parse(text: &str) -> Result<Vec<Action>, String> {
    let actions: Vec<Action> = text.split(',').map(|word| one(word.trim())).collect::<Result<_, _>>()?;
    if actions.len() > ACTIONS_MAX { Err(format!("at most {ACTIONS_MAX} actions")) } else { Ok(actions) }
}

/// The action of a key, if it has one.
pub fn of_key(key: u8) -> Option<Action> {
    match key {
        b'k' => Some(Action::KillLeader),
        b's' => Some(Action::Stepdown),
        b'r' => Some(Action::Restart(None)),
        b'p' => Some(Action::PartitionDc(1)),
        b'h' => Some(Action::Heal),
        _ => None,
    }
}

fn one(word: &str) -> Result<Action, String> {
    let (verb, object) = match word.split_once(':') {
        Some((verb, object)) => (verb, Some(object)),
        None => (word, None),
    };
    let name = || object.filter(|name| !name.is_empty()).map(str::to_owned).ok_or(format!("{verb} needs a server"));
    let dc = || object.and_then(|dc| dc.parse().ok()).ok_or(format!("{verb} needs the number of a data center"));
    match (verb, object) {
        ("kill-leader", None) => Ok(Action::KillLeader),
        ("kill", _) => Ok(Action::Kill(name()?)),
        ("kill-dc", _) => Ok(Action::KillDc(dc()?)),
        ("stop", _) => Ok(Action::Stop(name()?)),
        ("restart", None) => Ok(Action::Restart(None)),
        ("restart", _) => Ok(Action::Restart(Some(name()?))),
        ("partition-dc", _) => Ok(Action::PartitionDc(dc()?)),
        ("heal", None) => Ok(Action::Heal),
        ("stepdown", None) => Ok(Action::Stepdown),
        ("wait", Some(seconds)) => match seconds.parse::<f64>() {
            Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(Action::Wait(Duration::from_secs_f64(seconds))),
            _ => Err(format!("wait:{seconds} is not a number of seconds")),
        },
        _ => Err(format!("unknown action {word:?}; `lab --help` lists them")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_reads_back_as_it_is_shown() {
        let text =
            "kill-leader,kill:us_1,kill-dc:2,stop:emea_1,restart,restart:us_2,partition-dc:1,heal,wait:1.5,stepdown";
        let actions = parse(text).unwrap();
        assert_eq!(actions.len(), 10);
        let shown: Vec<String> = actions.iter().map(Action::to_string).collect();
        assert_eq!(shown.join(","), text);
    }

    #[test]
    fn wrong_words_are_named() {
        for (text, why) in [
            ("", "unknown action \"\""),
            ("kill-leader,dance", "dance"),
            ("kill:", "kill needs a server"),
            ("partition-dc", "needs the number"),
            ("partition-dc:x", "needs the number"),
            ("heal:1", "unknown action"),
            ("wait:-1", "not a number of seconds"),
            ("wait", "unknown action"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}

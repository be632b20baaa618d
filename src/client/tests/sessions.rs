//! The recorded sessions, against the client face.

use std::collections::BTreeMap;

use super::desk::Desk;
use super::script::{Stage, play, sessions};

/// A desk with clients named by letters.
struct Named {
    desk: Desk,
    clients: BTreeMap<char, u64>,
}

impl Stage for Named {
    fn connect(&mut self, client: char) {
        let id = self.desk.connect();
        self.clients.insert(client, id);
    }

    fn send(&mut self, client: char, text: &str) {
        self.desk.send(self.clients[&client], text);
    }

    fn line(&mut self, client: char) -> Option<String> {
        let received = self.desk.received.get_mut(&self.clients[&client])?;
        let end = received.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = received.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_string())
    }

    fn closed(&mut self, client: char) -> bool {
        let id = self.clients[&client];
        self.desk.is_closed(id) && self.desk.text(id).is_empty()
    }
}

#[test]
fn every_recorded_session_is_answered_as_recorded() {
    let sessions = sessions();
    assert!(sessions.len() >= 40);
    for session in sessions {
        let mut stage = Named { desk: Desk::new(&session.config), clients: BTreeMap::new() };
        if let Err(fault) = play(&session, &mut stage) {
            panic!("{fault}\nlog: {:#?}", stage.desk.logged());
        }
    }
}

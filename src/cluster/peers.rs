//! The links of this server, on the core that owns them: what each peer is, and the frames that this turn sends it.
//!
//! A frame of a lane carries the messages of one turn, each with the core it comes from and the core it is for:
//! `to: u16, from: u16, message`, little-endian (a message knows its own length). One frame per peer and lane and turn: the batch adapts to the
//! load by itself.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use net::peer::lane::Lane;

use super::codec::{self, Decoded};
use super::wire::NodeMsg;
use crate::account::Accounts;
use crate::ids::{CoreId, ServerId};

/// A frame is closed at this size, so that one turn's burst does not become one huge write.
const FRAME_BYTES_SOFT: usize = 1024 * 1024;

/// What goes out to one peer, per lane.
#[derive(Debug, Default)]
struct Outgoing {
    lanes: [BytesMut; 3],
}

#[derive(Debug, Default)]
pub struct Peers {
    outgoing: BTreeMap<ServerId, Outgoing>,
    full: Vec<(ServerId, Lane, Bytes)>,
}

fn slot(lane: Lane) -> usize {
    match lane {
        Lane::Control => 0,
        Lane::Data => 1,
        Lane::Bulk => 2,
    }
}

const LANES: [Lane; 3] = [Lane::Control, Lane::Data, Lane::Bulk];

impl Peers {
    pub fn up(&mut self, peer: ServerId) {
        self.outgoing.insert(peer, Outgoing::default());
    }

    pub fn gone(&mut self, peer: ServerId) {
        self.outgoing.remove(&peer);
        self.full.retain(|(to, _, _)| *to != peer);
    }

    /// Adds a message to this turn's frame; dropped if the link is down (every protocol above copes with that).
    pub fn send(&mut self, peer: ServerId, to: CoreId, from: CoreId, msg: &NodeMsg, accounts: &Accounts) {
        let Some(outgoing) = self.outgoing.get_mut(&peer) else { return };
        let lane = msg.lane();
        let frame = &mut outgoing.lanes[slot(lane)];
        frame.put_u16_le(to);
        frame.put_u16_le(from);
        codec::encode(msg, accounts, frame);
        if frame.len() >= FRAME_BYTES_SOFT {
            let bytes = frame.split().freeze();
            self.full.push((peer, lane, bytes));
        }
    }

    /// The frames of this turn, in the order in which they must leave.
    pub fn take_frames(&mut self) -> Vec<(ServerId, Lane, Bytes)> {
        let mut frames = std::mem::take(&mut self.full);
        for (peer, outgoing) in &mut self.outgoing {
            for lane in LANES {
                let frame = &mut outgoing.lanes[slot(lane)];
                if !frame.is_empty() {
                    frames.push((*peer, lane, frame.split().freeze()));
                }
            }
        }
        frames
    }
}

/// One message of a frame: for which core, from which, and what.
pub type Parcel = (CoreId, CoreId, NodeMsg);

/// Takes a frame apart.
///
/// # Errors
/// The first thing that does not parse, in words: the link that brought it must go.
pub fn open_frame(mut frame: Bytes, accounts: &Accounts) -> Result<Vec<Parcel>, String> {
    let mut parcels = Vec::new();
    while !frame.is_empty() {
        if frame.len() < 4 {
            return Err("a message's head is cut off".into());
        }
        let (to, from) = (frame.get_u16_le(), frame.get_u16_le());
        match codec::decode(&mut frame, accounts).map_err(|e| e.to_string())? {
            Some(Decoded::Message(msg)) => parcels.push((to, from, msg)),
            // An account or a kind that this server does not know is the other side's business, and so are its subjects.
            Some(Decoded::UnknownAccount(_) | Decoded::UnknownKind(_) | Decoded::UnfitSubject) => {}
            None => return Err("a message is missing".into()),
        }
    }
    Ok(parcels)
}

//! Builds of the world with one named bug each: what the checkers must find.
//!
//! Each bug is put in at the seam (disk, network, client bytes, restart), where a bug of the product would show, so no
//! product code knows of them. A checker that finds none of them would find nothing.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A write is answered before it is durable.
    AckBeforeFlush,
    /// A follower's answer "stored" is sent for it while its append is lost: a quorum of one less.
    QuorumMinusOne,
    /// A vote that was refused arrives as granted: the second vote of a server that forgot its first.
    VoteForgotten,
    /// After a restart everything behind the first damaged place of a log is gone.
    TailCut,
    /// Message ids do not reach the server.
    DedupForgotten,
    /// Some deliveries are acknowledged and never shown to the reader.
    DeliverySkips,
    /// Announcements of leaders are lost though the link stands.
    LeadLost,
    /// A byte of an appended entry changes on its way to a follower.
    AppendChanged,
    /// Whoever asks whether it was removed hears that it was, committed or not.
    LeaveEarly,
    /// A purge is answered and removes nothing.
    PurgeForged,
    /// Clocks run ahead, and messages go before their time.
    ClockAhead,
    /// Entries that a peer gives back for damaged ones are lost on their way.
    HealLost,
    /// A stream keeps more of each subject than its configuration says.
    LimitForgotten,
}

pub const ALL: [Mutant; 13] = [
    Mutant::AckBeforeFlush,
    Mutant::QuorumMinusOne,
    Mutant::VoteForgotten,
    Mutant::TailCut,
    Mutant::DedupForgotten,
    Mutant::DeliverySkips,
    Mutant::LeadLost,
    Mutant::AppendChanged,
    Mutant::LeaveEarly,
    Mutant::PurgeForged,
    Mutant::ClockAhead,
    Mutant::HealLost,
    Mutant::LimitForgotten,
];

impl Mutant {
    pub fn name(self) -> &'static str {
        match self {
            Mutant::AckBeforeFlush => "ack-before-flush",
            Mutant::QuorumMinusOne => "quorum-minus-one",
            Mutant::VoteForgotten => "vote-forgotten",
            Mutant::TailCut => "tail-cut",
            Mutant::DedupForgotten => "dedup-forgotten",
            Mutant::DeliverySkips => "delivery-skips",
            Mutant::LeadLost => "lead-lost",
            Mutant::AppendChanged => "append-changed",
            Mutant::LeaveEarly => "leave-early",
            Mutant::PurgeForged => "purge-forged",
            Mutant::ClockAhead => "clock-ahead",
            Mutant::HealLost => "heal-lost",
            Mutant::LimitForgotten => "limit-forgotten",
        }
    }

    pub fn from_name(name: &str) -> Option<Mutant> {
        ALL.into_iter().find(|mutant| mutant.name() == name)
    }

    /// Mutants that look at every message between servers.
    pub fn sits_between_servers(self) -> bool {
        use Mutant::{AppendChanged, HealLost, LeadLost, LeaveEarly, QuorumMinusOne, VoteForgotten};
        matches!(self, LeadLost | VoteForgotten | AppendChanged | QuorumMinusOne | LeaveEarly | HealLost)
    }
}

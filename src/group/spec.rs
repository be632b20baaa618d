//! What the hub says about a group when it opens one, and the settings of all groups of a core.

use crate::ids::{CoreId, GroupId, ServerId};

/// What a group replicates. Stored with every entry and in the group's descriptor, so that a recovered log describes
/// itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupKind {
    Meta,
    Stream,
    Consumer,
}

/// One replica of one group, as the table of assignments wants it on this core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSpec {
    pub group: GroupId,
    pub kind: GroupKind,
    /// Entries and checkpoints stay in memory; nothing of the group is on disk, so a restarted replica has forgotten.
    pub memory: bool,
    /// The voters of a group that is new for everybody. `None` joins a group that exists: the leader tells who belongs
    /// to it. Ignored for a group that recovery found.
    pub bootstrap: Option<Vec<ServerId>>,
    /// An earlier incarnation of this replica may have voted or acknowledged and what it knew is gone (a memory replica
    /// after a restart, a wiped disk): it neither votes nor counts until the leader has caught it up. A group on disk whose
    /// only voter is this server starts afresh instead: nobody else remembers anything either. Ignored for a group that
    /// recovery found: its own records say it.
    pub forgetful: bool,
    /// Lead only when nobody else can: the preferred place is elsewhere.
    pub priority_low: bool,
}

/// By whose unanimous word a memory group may begin anew after restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anew {
    /// The voters that it shall have.
    pub voters: Vec<ServerId>,
    /// Everybody else who may belong to it.
    pub former: Vec<ServerId>,
    /// Names this decision about its members: never 0, higher for a later one.
    pub stamp: u64,
}

/// Settings of all groups of one core.
#[derive(Debug, Clone)]
pub struct GroupsOptions {
    pub server: ServerId,
    pub core: CoreId,
    /// Cores of this server: see [`home_core`].
    pub cores: CoreId,
    /// Different for every process start; tells peers that everything this server led is in doubt.
    pub boot: u64,
    /// Seeds every random choice: election timeouts per group, session numbers.
    pub seed: u64,
    pub store: storage::StoreOptions,
    /// Largest piece of a machine's state that is stored as one record; larger states are stored in parts.
    pub state_part_bytes: usize,
    pub timing: Timing,
}

/// Timing on a network without delay; round trips that are measured only ever stretch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Least election timeout, microseconds; each election waits a random time of one to two of it.
    pub election_us: u64,
    /// Between two heartbeats of an active group, microseconds.
    pub heartbeat_us: u64,
    /// Between two heartbeats of a pair of nodes, microseconds: they stand for all quiet groups.
    pub node_heartbeat_us: u64,
}

impl Default for Timing {
    /// Losing a leader costs 300 to 600 ms plus two round trips: below the second that clients notice, and far above
    /// the pauses of a busy machine, which are tens of milliseconds.
    fn default() -> Timing {
        Timing { election_us: 300_000, heartbeat_us: 75_000, node_heartbeat_us: 100_000 }
    }
}

/// The core on which a server with that many cores keeps a group. The meta group lives on core 0; the others are spread
/// by a hash of their home key (a consumer shares its stream's), so that every server can tell where a group lives on any
/// other one.
pub fn home_core(group: GroupId, cores: CoreId) -> CoreId {
    if group == GroupId::META || cores <= 1 {
        return 0;
    }
    (super::mix(group.home_key()) % u64::from(cores)) as CoreId
}

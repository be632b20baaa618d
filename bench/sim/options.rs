//! What makes a run: its seed, its size and which faults it may meet. Equal options give equal runs.

use crate::dice::Dice;
use crate::mutants::Mutant;

#[derive(Debug, Clone)]
pub struct Options {
    pub seed: u64,
    pub servers: usize,
    pub cores: u16,
    /// How long faults go on, milliseconds of the world.
    pub storm_ms: u64,
    pub segment_bytes: u64,
    pub faults: Faults,
    pub mutant: Option<Mutant>,
    /// Print what happens.
    pub trace: bool,
    /// Print the messages between the replicas of this group, too.
    pub watch: Option<u64>,
}

/// Which faults a run may meet. Each run has some of them: a fault that is always there hides what happens without it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    pub crash: bool,
    pub stop: bool,
    pub pause: bool,
    pub partition: bool,
    /// Percent of the messages of raft that are lost, doubled or late.
    pub lossy_percent: u64,
    /// Wide-area round trips instead of local ones.
    pub wide: bool,
    pub stall: bool,
    pub clock: bool,
    /// No space on one server for a while.
    pub full: bool,
    /// Writes that fail on one server.
    pub failing: bool,
    /// Flipped bits on one server.
    pub rot: bool,
    /// One server comes back with an empty disk.
    pub wipe: bool,
    /// Servers read a changed configuration (tags).
    pub reload: bool,
    /// Replica counts change, streams come and go.
    pub edits: bool,
    /// Clients soon move to the cores that they ask, and mail between cores takes its time.
    pub moves: bool,
    /// People use more of what there is: limits per subject, refusals, expectations, consumers that come, go and change.
    pub broad: bool,
}

impl Options {
    /// A run of that seed with everything chosen by it.
    pub fn of_seed(seed: u64) -> Options {
        let mut dice = Dice::new(seed ^ 0x0011_2233_4455_6677);
        let (servers, cores) = (if dice.chance(20) { 5 } else { 3 }, dice.between(1, 2) as u16);
        let mut faults = Faults::roll(&mut dice);
        // A die of its own, so that the other runs stay what they were.
        let mut dice = Dice::new(seed ^ 0x5566_7788_99aa_bbcc);
        faults.moves = dice.chance(35);
        let cores = if faults.moves { dice.between(2, 3) as u16 } else { cores };
        faults.broad = dice.chance(50);
        Options {
            seed,
            servers,
            cores,
            storm_ms: 6_000,
            segment_bytes: 1 << 20,
            faults,
            mutant: None,
            trace: false,
            watch: None,
        }
    }
}

impl Faults {
    pub fn roll(dice: &mut Dice) -> Faults {
        Faults {
            crash: dice.chance(60),
            stop: dice.chance(40),
            pause: dice.chance(30),
            partition: dice.chance(50),
            lossy_percent: if dice.chance(30) { dice.between(1, 15) } else { 0 },
            wide: dice.chance(25),
            stall: dice.chance(30),
            clock: dice.chance(30),
            full: dice.chance(15),
            failing: dice.chance(15),
            rot: dice.chance(20),
            edits: dice.chance(40),
            reload: dice.chance(30),
            wipe: dice.chance(15),
            moves: false,
            broad: false,
        }
    }
}

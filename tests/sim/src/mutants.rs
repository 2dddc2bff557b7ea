//! Everything that can be made wrong on purpose: the rules themselves, how a host performs their effects, and the oracle.

use pelton_core::mutant::Mutant as Rule;

/// What a host, or the adapter that it performs an effect through, does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slip {
    /// A commit is put over whatever stands at its number.
    PutWithoutCondition,
    /// A commit is taken for one's own if one's own host put it.
    IdentityByHost,
    /// A commit that is sent again says something else.
    SentBytesChange,
    /// Parts that no commit names yet are taken for rubbish.
    PartsDeletedWhileStaged,
    /// The local copy takes a commit before the log does.
    ApplyBeforeAppend,
    /// A fence counts by the floor as it was read before.
    FenceWithoutFloor,
    /// Outputs go out before their commit is durable.
    PublishBeforeDurable,
    /// Outputs of a commit go out before all of the commit before it are there.
    PublishAhead,
    /// Fences are trimmed like steps.
    TrimFences,
    /// The newest commit is trimmed too.
    TrimNewest,
    /// The log is trimmed before the manifest stands.
    TrimBeforeManifest,
    /// A manifest stands before its parts do.
    ManifestBeforeParts,
    /// Unpublished outputs are not in snapshots.
    SnapshotWithoutOutbox,
    /// Dead letters are not in snapshots.
    SnapshotWithoutLetters,
    /// Timers are not in snapshots.
    SnapshotWithoutTimers,
    /// Guests do not see what is being appended.
    HideSealed,
    /// What a crash lost of the local copy, its mark does not know.
    MarkSurvivesCrash,
    /// Idle positions are the reader's, not the task's.
    IdleAtReader,
    /// A reader resumes behind an aggregate of which only a part is folded.
    SkipRestOfAggregate,
    /// Every task that a shard feeds answers for what is odd in it.
    AsidesForAll,
    /// Nobody answers for what is odd.
    AsidesForNobody,
    /// Records go to the home task of the shard that delivered them.
    RouteByShard,
    /// A child waits until every task of the host passed its parents.
    ParentGatePerShard,
    /// What was seen of a job upstream does not survive a restart.
    ForgetRepeats,
    /// Records that are gone are passed without a word.
    SilentGaps,
    /// A call is made with the newest deployment, whatever the task is pinned to.
    DeploymentOfTheDay,
    /// A task that passed a gap does not look which shards it needs.
    NoLook,
    /// A task whose pin changed goes on with the instance it has.
    SwapKeepsInstance,
}

/// What the oracle gets wrong: one that is wrong must be noticed too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blunder {
    /// Records are the next task's.
    NextOwner,
    /// Each record is folded twice.
    FoldsTwice,
    /// Timers are never cancelled.
    TimersStay,
}

/// A wrong variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A rule is broken.
    Rule(Rule),
    /// An effect is performed wrongly.
    Slip(Slip),
    /// What must be is told wrongly.
    Blunder(Blunder),
}

const BLUNDERS: &[(&str, Blunder)] = &[
    ("oracle-next-owner", Blunder::NextOwner),
    ("oracle-folds-twice", Blunder::FoldsTwice),
    ("oracle-timers-stay", Blunder::TimersStay),
];

const SLIPS: &[(&str, Slip)] = &[
    ("put-without-condition", Slip::PutWithoutCondition),
    ("identity-by-host", Slip::IdentityByHost),
    ("sent-bytes-change", Slip::SentBytesChange),
    ("parts-deleted-while-staged", Slip::PartsDeletedWhileStaged),
    ("apply-before-append", Slip::ApplyBeforeAppend),
    ("fence-without-floor", Slip::FenceWithoutFloor),
    ("publish-before-durable", Slip::PublishBeforeDurable),
    ("publish-ahead", Slip::PublishAhead),
    ("trim-fences", Slip::TrimFences),
    ("trim-newest", Slip::TrimNewest),
    ("trim-before-manifest", Slip::TrimBeforeManifest),
    ("manifest-before-parts", Slip::ManifestBeforeParts),
    ("snapshot-without-outbox", Slip::SnapshotWithoutOutbox),
    ("snapshot-without-letters", Slip::SnapshotWithoutLetters),
    ("snapshot-without-timers", Slip::SnapshotWithoutTimers),
    ("hide-sealed", Slip::HideSealed),
    ("mark-survives-crash", Slip::MarkSurvivesCrash),
    ("idle-at-reader", Slip::IdleAtReader),
    ("skip-rest-of-aggregate", Slip::SkipRestOfAggregate),
    ("asides-for-all", Slip::AsidesForAll),
    ("asides-for-nobody", Slip::AsidesForNobody),
    ("route-by-shard", Slip::RouteByShard),
    ("parent-gate-per-shard", Slip::ParentGatePerShard),
    ("forget-repeats", Slip::ForgetRepeats),
    ("silent-gaps", Slip::SilentGaps),
    ("deployment-of-the-day", Slip::DeploymentOfTheDay),
    ("no-look", Slip::NoLook),
    ("swap-keeps-instance", Slip::SwapKeepsInstance),
];

impl Mutant {
    /// Every mutant with its name.
    pub fn all() -> Vec<(&'static str, Self)> {
        let rules = Rule::ALL.iter().map(|(name, rule)| (*name, Self::Rule(*rule)));
        let slips = SLIPS.iter().map(|(name, slip)| (*name, Self::Slip(*slip)));
        let blunders = BLUNDERS.iter().map(|(name, blunder)| (*name, Self::Blunder(*blunder)));
        rules.chain(slips).chain(blunders).collect()
    }

    /// The mutant of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|(known, _)| *known == name).map(|(_, mutant)| mutant)
    }
}

/// A mutant with the first seed that caught it, and the promise that was broken there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    /// Its name.
    pub name: String,
    /// The seed.
    pub seed: u64,
    /// The promise, as [`Promise`](crate::Promise) says it.
    pub promise: String,
}

impl std::fmt::Display for Caught {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "caught {} seed {} invariant {}", self.name, self.seed, self.promise)
    }
}

/// The seeds on record, as `caught.txt` has them: a line each, as they are displayed.
///
/// # Panics
/// When a line is none.
pub fn on_record() -> Vec<Caught> {
    let caught = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
        ["caught", name, "seed", seed, "invariant", promise] => {
            let seed = seed.parse().expect("a seed is a number");
            Caught { name: name.into(), seed, promise: promise.into() }
        }
        _ => panic!("caught.txt: not a line as `make mutants` prints them: {line:?}"),
    };
    include_str!("../caught.txt").lines().map(caught).collect()
}

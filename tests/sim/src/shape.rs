//! The shape of a simulated world: what its seed makes of it, what can go wrong in it, and what is counted.

use pelton_core::limits::Bounds;
use pelton_core::policy::{Aggregates, OutOfRange, Policies};
use pelton_core::task::{LastStraw, OnGap};

use crate::rng::Rng;

/// How often things go wrong, of ten thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A host crashes at an effect.
    pub crash: u64,
    /// A call fails without being applied.
    pub fail: u64,
    /// A call is applied and its reply lost.
    pub lose: u64,
    /// A put is given up and applied later.
    pub late: u64,
    /// Kinesis throttles.
    pub throttle: u64,
    /// A run never reaches its mailbox.
    pub drop_run: u64,
    /// The logic fails.
    pub guest: u64,
    /// A listing is an old one.
    pub stale: u64,
    /// A crash takes the disk too.
    pub disk: u64,
}

/// A world's shape.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Hosts that fight for the tasks.
    pub hosts: u64,
    /// Tasks of the job.
    pub tasks: u32,
    /// Input streams.
    pub streams: u64,
    /// Shards of each in the beginning.
    pub shards: u64,
    /// Partition keys of each stream.
    pub keys: u64,
    /// How long records come, milliseconds.
    pub traffic_ms: u64,
    /// Pause between puts, milliseconds, on average.
    pub put_every_ms: u64,
    /// Pause between reshards, milliseconds, on average.
    pub reshard_every_ms: u64,
    /// Pause between whims of a host, milliseconds, on average.
    pub whim_every_ms: u64,
    /// Records a mailbox takes.
    pub mailbox_records: usize,
    /// Records a fetch brings.
    pub fetch_records: usize,
    /// How long an iterator lives, milliseconds.
    pub iterator_ms: u64,
    /// See [`pelton_core::task::RunningRules`].
    pub commit_interval_ms: u64,
    /// See [`pelton_core::task::RunningRules`].
    pub positions_age_max_ms: u64,
    /// Bounds of tasks.
    pub bounds: Bounds,
    /// How often a failed batch is tried again.
    pub retries: u32,
    /// Longest a call of the logic takes, milliseconds.
    pub call_ms: u64,
    /// Longest a fence is on its way, milliseconds.
    pub fence_ms: u64,
    /// Whether the guest writes values too large for one item.
    pub big: bool,
    /// How long after a change it may be undone, milliseconds.
    pub rewind_window_ms: u64,
    /// What becomes of odd records.
    pub policies: Policies,
    /// Of ten thousand puts, how many are odd.
    pub odd: u64,
    /// Whether there are records that the guest cannot take.
    pub poison: bool,
    /// What becomes of a record with which the guest failed too often.
    pub last_straw: LastStraw,
    /// Dead letters that a task may have.
    pub letters_max: u64,
    /// And how many bytes of them.
    pub letter_bytes_max: u64,
    /// Tasks of the job upstream whose outputs are the first streams; none where it has none.
    pub upstream: u64,
    /// How many of the first streams it fills, each with an output of its own.
    pub upstream_streams: u64,
    /// How long streams keep records, milliseconds; none for ever.
    pub retention_ms: Option<u64>,
    /// What to do about records that are gone.
    pub on_gap: OnGap,
    /// Longest that a host sleeps, milliseconds.
    pub sleep_ms: u64,
    /// What goes wrong.
    pub faults: Faults,
}

impl Shape {
    /// The shape a seed has.
    pub fn new(rng: &mut Rng) -> Self {
        let mut now_and_then = |most: u64| if rng.chance(7_000) { rng.below(most) } else { 0 };
        let faults = Faults {
            crash: now_and_then(25),
            fail: now_and_then(1_500),
            lose: now_and_then(1_500),
            late: now_and_then(1_000),
            throttle: now_and_then(1_000),
            drop_run: now_and_then(300),
            guest: now_and_then(1_500),
            stale: now_and_then(8_000),
            disk: now_and_then(4_000),
        };
        let big = rng.chance(300);
        let streams = rng.between(1, 2);
        let upstream = if rng.chance(4_000) { rng.between(1, 3) } else { 0 };
        Self {
            hosts: rng.between(1, 3),
            tasks: rng.between(1, 8) as u32,
            streams,
            shards: rng.between(1, 3),
            keys: rng.between(2, 8),
            traffic_ms: if rng.chance(1_000) { rng.between(30_000, 90_000) } else { rng.between(3_000, 25_000) },
            put_every_ms: rng.between(50, 400),
            reshard_every_ms: rng.between(2_000, 20_000),
            whim_every_ms: rng.between(300, 6_000),
            mailbox_records: rng.between(1, 40) as usize,
            fetch_records: rng.between(1, 40) as usize,
            iterator_ms: rng.between(1_000, 20_000),
            commit_interval_ms: rng.between(20, 1_000),
            positions_age_max_ms: rng.between(2_000, 30_000),
            bounds: Bounds {
                batch_records_max: rng.between(1, 20) as usize,
                batch_bytes: rng.between(100, 4_000) as usize,
                seal_bytes: if big { 1 << 20 } else { rng.between(600, 24_000) as usize },
                seal_invocations: rng.between(1, 20) as usize,
                snapshot_log_bytes_min: if big { 2 << 20 } else { rng.between(500, 10_000) },
                snapshot_commits_max: rng.between(2, 60),
                rewind_grace_ms: 100_000,
            },
            retries: rng.between(1, 5) as u32,
            call_ms: if rng.chance(3_000) { rng.between(100, 4_000) } else { 20 },
            fence_ms: if rng.chance(3_000) { rng.between(100, 20_000) } else { 20 },
            big,
            rewind_window_ms: [0, 300_000, 1_000_000][rng.below(3) as usize],
            policies: Policies {
                out_of_range: choice(rng, OutOfRange::NAMES),
                aggregates: choice(rng, Aggregates::NAMES),
            },
            odd: if rng.chance(6_000) { rng.below(6_000) } else { 0 },
            poison: rng.chance(4_000),
            last_straw: if rng.chance(6_000) { LastStraw::DeadLetter } else { LastStraw::Stop },
            letters_max: if rng.chance(4_500) { rng.between(0, 6) } else { u64::MAX },
            letter_bytes_max: if rng.chance(1_000) { rng.between(0, 3_000) } else { u64::MAX },
            upstream,
            upstream_streams: if upstream > 0 { rng.between(1, streams) } else { 0 },
            retention_ms: None,
            on_gap: OnGap::Stop,
            sleep_ms: 40_000,
            faults,
        }
    }

    /// The same world grown slow and forgetful: streams keep records for minutes, and hosts sleep for as long. There is
    /// no job upstream: of an output that is sent twice nobody could say which one was lost.
    pub fn forgetful(self, rng: &mut Rng) -> Self {
        let shape = Self {
            retention_ms: Some(rng.between(120_000, 400_000)),
            on_gap: if rng.chance(7_000) { OnGap::Continue } else { OnGap::Stop },
            sleep_ms: 500_000,
            traffic_ms: rng.between(300_000, 1_000_000),
            put_every_ms: rng.between(2_000, 8_000),
            reshard_every_ms: match rng.chance(3_000) {
                true => rng.between(10_000, 60_000),
                false => rng.between(60_000, 400_000),
            },
            whim_every_ms: rng.between(20_000, 100_000),
            positions_age_max_ms: rng.between(10_000, 40_000),
            upstream: 0,
            upstream_streams: 0,
            ..self
        };
        match rng.below(10) {
            0..3 => shape.sluggish(rng),
            3..5 => shape.restless(rng),
            _ => shape,
        }
    }

    /// The same world with shards that come and go while those that are to read them sleep.
    fn restless(self, rng: &mut Rng) -> Self {
        Self {
            hosts: 3,
            tasks: rng.between(5, 8) as u32,
            retention_ms: Some(rng.between(120_000, 240_000)),
            traffic_ms: rng.between(400_000, 800_000),
            put_every_ms: rng.between(3_000, 12_000),
            reshard_every_ms: rng.between(10_000, 30_000),
            on_gap: OnGap::Continue,
            letters_max: u64::MAX,
            letter_bytes_max: u64::MAX,
            ..self
        }
    }

    /// The same world with few shards, little in them, and tasks that take so little at a time, and so long over it, that what
    /// waits for them expires.
    fn sluggish(self, rng: &mut Rng) -> Self {
        Self {
            hosts: 1,
            tasks: rng.between(2, 4) as u32,
            shards: 1,
            call_ms: rng.between(50_000, 200_000),
            mailbox_records: 1,
            bounds: Bounds { batch_records_max: 1, ..self.bounds },
            put_every_ms: rng.between(10_000, 60_000),
            reshard_every_ms: match rng.chance(3_000) {
                true => rng.between(10_000, 60_000),
                false => rng.between(200_000, 10_000_000),
            },
            on_gap: OnGap::Continue,
            letters_max: u64::MAX,
            letter_bytes_max: u64::MAX,
            ..self
        }
    }
}

fn choice<T: Copy>(rng: &mut Rng, names: &[(&str, T)]) -> T {
    names[rng.below(names.len() as u64) as usize].1
}

macro_rules! coverage {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What happened, counted.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Coverage {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Coverage {
            /// Each count with its name.
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }

            /// Adds another world's counts.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

coverage! {
    /// Records put.
    records,
    /// Commits in all histories.
    commits,
    /// Hosts that crashed.
    crashes,
    /// Crashes in the midst of a step's effects.
    crashes_amid_effects,
    /// Disks lost.
    disks_lost,
    /// Of those, disks with something else on them afterwards.
    foreign_disks,
    /// Hosts that slept.
    pauses,
    /// Calls applied whose reply was lost.
    lost_replies,
    /// Calls that failed.
    failed_calls,
    /// Puts applied after they were given up.
    late_puts,
    /// Other writes that landed after they were given up.
    late_writes,
    /// Puts refused because their number was taken.
    refused_puts,
    /// Puts that landed below the floor.
    puts_below_floor,
    /// Fences that stand.
    fences,
    /// Owners that met another's commit.
    zombies_fenced,
    /// Claims that another's outran.
    claims_lost,
    /// Fences that were trimmed past.
    fences_trimmed,
    /// Holes found by a mailbox.
    holes,
    /// Runs lost on their way.
    runs_dropped,
    /// Mailboxes that were full.
    full_mailboxes,
    /// Catch-up readers begun.
    catch_ups,
    /// Snapshots whose manifest stands.
    snapshots,
    /// Trims brought to their end.
    trims,
    /// Commits staged in parts.
    staged_commits,
    /// Local copies given up.
    rebuilt,
    /// Snapshots loaded.
    snapshots_loaded,
    /// Snapshots that vanished while they were loaded.
    snapshots_missed,
    /// Tasks that were told of idle positions that follow the newest commit.
    idle_found,
    /// Shards split.
    splits,
    /// Shards merged.
    merges,
    /// Shards no longer listed.
    forgotten,
    /// Listings older than the stream.
    stale_listings,
    /// Iterators that expired.
    expired_iterators,
    /// Calls throttled.
    throttled,
    /// Odd records put.
    odd_puts,
    /// Aggregates sent again after a reshard.
    stale_aggregates,
    /// Outputs of the job upstream sent again.
    upstream_repeats,
    /// Calls of the logic that failed.
    guest_failures,
    /// Calls that failed for good.
    fatal_calls,
    /// Calls that failed because of a record the guest cannot take.
    poisoned_calls,
    /// Dead letters written.
    dead_letters,
    /// Dead letters folded after all.
    redriven,
    /// Dead letters asked to be forgotten.
    forgets,
    /// Records dropped by policy.
    dropped,
    /// Damaged aggregates folded as they are.
    malformed,
    /// Timers fired.
    timers_fired,
    /// Records lost as a dead letter says.
    lost,
    /// Tasks that stopped at a gap.
    stopped_at_gaps,
    /// Tasks that stopped with too many dead letters.
    letters_full,
    /// Tasks that stopped because asked.
    drained,
    /// Tasks that stopped because their batch kept failing.
    batches_given_up,
    /// Packages sent again.
    repeats_published,
    /// Worlds in which the calls of a task hang, in the end.
    hung_tasks,
    /// Deployments made, promoted or gone back to.
    deployments,
    /// Pins changed between two commits.
    swaps,
    /// Canaries that failed for good.
    canaries_failed,
    /// Rollbacks that go forward.
    rollbacks,
    /// Changes undone,
    rewinds,
    /// tasks rewound for it,
    tasks_rewound,
    /// and tasks of which records were gone that they would have folded again.
    rewinds_withdrawn,
    /// Rewinds withdrawn wherever the tasks were with them,
    withdrawn_by_chance,
    /// and asked for again.
    rewinds_asked_again,
}

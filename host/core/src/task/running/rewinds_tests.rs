use std::collections::BTreeMap;

use super::*;
use crate::append::PutReply;
use crate::dead_letter::LetterBounds;
use crate::id::{CommitId, DeploymentNumber, Epoch, Incarnation, ShardId, ShardKey, StreamIndex, TaskId};
use crate::job::{Input, JobMeta, Start};
use crate::limits::Bounds;
use crate::policy::Policies;
use crate::position::PositionEntry;
use crate::record::Run;
use crate::sequence::SequenceNumber;
use crate::shard::{Shard, ShardMap};
use crate::slice::{HashKey, HashRange, TaskCount};
use crate::snapshot::StateMark;
use crate::task::effect::Event;
use crate::task::rewind::RefoldedOutputs;
use crate::task::running::{LastStraw, OnGap, RunningRules};

/// Positions are committed alone when they are this old.
const POSITIONS_AGE_MS: u64 = 1_000;
const ALL: HashRange = HashRange { start: HashKey(0), end: HashKey(u128::MAX) };

fn shard() -> Shard {
    Shard { id: ShardId::from("a"), range: ALL, parents: Vec::new(), closed: false }
}

fn key() -> ShardKey {
    ShardKey { stream: StreamIndex(0), shard: shard().id }
}

fn after(number: u64) -> Position {
    Position::after_all_of(SequenceNumber([0, 0, number]))
}

fn pinned(revision: u64, number: u64) -> PinnedFrom {
    PinnedFrom {
        revision,
        deployment: DeploymentNumber(revision),
        number: CommitNumber(number),
        sealed_ms: 0,
        previous_id: CommitId::default(),
        unread_from_ms: 0,
    }
}

/// A task whose commits were of deployment 1 from the first on, and of deployment 2 from the third on; at the fourth, and at record 9.
fn running() -> Running {
    let input = Input {
        name: "in".into(),
        arn: String::new(),
        created_ms: 0,
        newest_shard: shard().id,
        listed: BTreeMap::from([(shard().id, ALL)]),
    };
    let meta = JobMeta {
        name: "job".into(),
        incarnation: Incarnation::default(),
        tasks: TaskCount::new(1).expect("one task"),
        inputs: vec![input],
        start: Start::TrimHorizon,
        created_ms: 0,
        policies: Policies::default(),
    };
    let rules = RunningRules {
        commit_interval_ms: 500,
        retries: 3,
        last_straw: LastStraw::DeadLetter,
        on_gap: OnGap::Stop,
        letters: LetterBounds { letters_max: 10, bytes_max: 1_000 },
        from_job: vec![false],
        assignment: Assignment { revision: 2, ..DeploymentNumber(2).into() },
        positions_age_max_ms: POSITIONS_AGE_MS,
        rewind_window_ms: 3_600_000,
    };
    let mark = StateMark { number: CommitNumber(4), epoch: Epoch(1), ..StateMark::default() };
    let origin = Origin { epoch: Epoch(1), mark, snapshots: Snapshots::new(&[], mark) };
    let entry = PositionEntry { position: after(9), unread_from_ms: 0, range: ALL };
    let pins = Pins { kept: vec![pinned(1, 1), pinned(2, 3)], forgotten: 0 };
    let system = vec![SystemEntry::Position(key(), entry), SystemEntry::Pins(pins)];
    Running::new(TaskId(0), meta.into(), (rules, Bounds::FULL), origin, system, 0)
}

#[test]
fn what_was_passed_before_a_rewind_is_never_committed_behind_it() {
    let (mut running, mut ids, mut effects) = (running(), IdSeed::new([0; 16]), Vec::new());
    let mut step = |running: &mut Running, now_ms: u64, event: Event| {
        let cause = running.handle(now_ms, event, &mut ids, &mut effects);
        let cause = cause.or_else(|| running.proceed(now_ms, &mut ids, &mut effects));
        (std::mem::take(&mut effects), cause)
    };
    let mut map = ShardMap::default();
    map.update(StreamIndex(0), vec![shard()]);
    assert_eq!(running.wants(&map).len(), 1);
    // It passes what has no records for it, which waits to be committed with something else.
    let (after, up_to) = (after(9), after(20));
    let passed =
        Run { after, up_to, unread_from_ms: 5, shard: key(), fetch: None, span: 0..0, asides: 0..0, gap: None };
    step(&mut running, 10, Event::Run(passed));
    assert_eq!(running.intake().unsealed().count(), 1);

    let undone = Undone { since: 2, until: 3, outputs: RefoldedOutputs::Withhold };
    let back = Assignment { revision: 3, undone: [undone].into_iter().collect(), ..DeploymentNumber(1).into() };
    let (asked, _) = step(&mut running, 20, Event::Assign(back));
    assert!(matches!(asked[..], [Effect::Rewind(RewindTo { number: CommitNumber(2), .. })]), "{asked:?}");
    let (sealed, _) = step(&mut running, 30, Event::Rewound(WriteSet::default()));
    assert!(matches!(sealed[..], [Effect::Put { .. }]), "{sealed:?}");

    // The host is to stop while the rewind's commit is on its way, and that takes so long that positions are to be committed.
    assert!(matches!(step(&mut running, 40, Event::Stop), (effects, None) if effects.is_empty()));
    let late_ms = 40 + 2 * POSITIONS_AGE_MS;
    let (effects, cause) = step(&mut running, late_ms, Event::Put(PutReply::Applied));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Put { .. })), "{effects:?}");
    assert_eq!(cause, Some(StopCause::Asked));
}

//! What a running task does, step by step.

use super::*;
use crate::counts::Counts;
use crate::dead_letter::{Content, LetterCause, Timer};
use crate::id::{DeploymentNumber, ShardId, StreamIndex};
use crate::position::Position;
use crate::sequence::SequenceNumber;
use crate::shard::Shard;
use crate::slice::HashRange;
use crate::task::refold::{FoldedBefore, RefoldedOutputs};
use crate::task::rewind::{PinnedFrom, RewindTo, Undone};
use crate::task::{CallOutcome, Failure, FailureKind};
use crate::write_set::WriteSet;

/// Positions are committed alone when they are this old.
const POSITIONS_AGE_MS: u64 = 1_000;

fn shard() -> Shard {
    Shard { id: ShardId::from("a"), range: HashRange::ALL, parents: Vec::new(), closed: false }
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
fn running(more: impl IntoIterator<Item = SystemEntry>) -> Running {
    let meta = JobMeta::of_one_task(shard().id, [(shard().id, HashRange::ALL)]);
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
    let entry = PositionEntry { position: after(9), unread_from_ms: 0, range: HashRange::ALL };
    let pins = Pins { kept: vec![pinned(1, 1), pinned(2, 3)], forgotten: 0 };
    let system = [SystemEntry::Position(key(), entry), SystemEntry::Pins(pins)];
    let system = system.into_iter().chain(more).collect();
    Running::new(TaskId(0), meta.into(), (rules, Bounds::FULL), origin, system, 0)
}

/// Takes an event and does what can be done then.
fn step(running: &mut Running, now_ms: u64, event: Event) -> (Vec<Effect>, Option<StopCause>) {
    // Ids that differ are all that matters of them.
    let (mut ids, mut effects) = (IdSeed::new(u128::from(now_ms).to_be_bytes()), Vec::new());
    let cause = running.handle(now_ms, event, &mut ids, &mut effects);
    let cause = cause.or_else(|| running.proceed(now_ms, &mut ids, &mut effects));
    (effects, cause)
}

#[test]
fn what_was_passed_before_a_rewind_is_never_committed_behind_it() {
    let mut running = running([]);
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

#[test]
fn a_rewind_that_is_no_longer_asked_for_when_its_state_is_read_is_not_done() {
    let undone = |since, until| Undone { since, until, outputs: RefoldedOutputs::Withhold };
    let told = |revision, undone: &[Undone]| {
        let undone = undone.iter().copied().collect();
        Event::Assign(Assignment { revision, undone, ..DeploymentNumber(1).into() })
    };
    let (once, more) = (undone(2, 3), undone(1, 4));
    for now in [told(4, &[]), told(4, &[once, more]), told(4, &[more])] {
        let mut running = running([]);
        let (asked, _) = step(&mut running, 20, told(3, &[once]));
        assert!(matches!(asked[..], [Effect::Rewind(RewindTo { number: CommitNumber(2), .. })]), "{asked:?}");
        step(&mut running, 25, now);
        let gone = StopCause::RewindRecordsGone { to: CommitNumber(2), age_ms: 1, retention_ms: 1 };
        assert!(running.is_withdrawn(&gone));
        let (read, cause) = step(&mut running, 30, Event::Rewound(WriteSet::default()));
        assert!(matches!(read[..], [Effect::LoadSystem(_)]) && cause.is_none(), "{read:?} {cause:?}");
    }
    let mut running = running([]);
    step(&mut running, 20, told(3, &[once]));
    // What is undone besides, and came before it, changes nothing of it.
    step(&mut running, 25, told(4, &[undone(5, 6), once]));
    let (read, _) = step(&mut running, 30, Event::Rewound(WriteSet::default()));
    assert!(matches!(read[..], [Effect::Put { .. }]), "{read:?}");
}

#[test]
fn a_call_for_which_there_is_no_room_is_made_again_as_if_for_the_first_time() {
    let mut running = running([SystemEntry::Timer(Timer { due_ms: 1, name: "t".into() })]);
    let call = |effects: &[Effect]| {
        let [.., Effect::Call(call)] = effects else { return None };
        Some((call.seed, call.born))
    };
    let (called, _) = step(&mut running, 10, Event::Tick);
    let first = call(&called).expect("the timer is due");
    for at_ms in [20, 1_000, 2_000] {
        let failure = Failure { kind: FailureKind::NoRoom, index: None, message: "it is full".into() };
        let (effects, cause) = step(&mut running, at_ms, Event::Called(CallOutcome::Failed(failure)));
        assert!(matches!(effects[..], [Effect::DropInstance]) && cause.is_none(), "{effects:?} {cause:?}");
        assert_eq!((running.failing(), running.failed_batches()), (Some((0, "it is full")), 0));
        let again_ms = running.wake_at_ms().expect("it is made again");
        assert_eq!(call(&step(&mut running, again_ms - 1, Event::Tick).0), None);
        let (called, _) = step(&mut running, again_ms, Event::Tick);
        assert_eq!(call(&called), Some(first), "it is the same call");
    }
    // A task that is to stop does not wait for room.
    let failure = Failure { kind: FailureKind::NoRoom, index: None, message: "it is full".into() };
    step(&mut running, 3_000, Event::Called(CallOutcome::Failed(failure)));
    assert_eq!(step(&mut running, 3_001, Event::Stop).1, Some(StopCause::Asked));
}

#[test]
fn a_timer_set_by_what_was_folded_before_had_fired_too_however_late_that_is_redriven() {
    let timer = |name: &str, due_ms| Timer { due_ms, name: name.into() };
    let before = FoldedBefore { rewind: CommitNumber(3), outputs: RefoldedOutputs::Withhold, clock_ms: 100 };
    let letter = DeadLetter {
        cause: LetterCause::Failed,
        message: "why".into(),
        attempts: 1,
        at_ms: 4,
        content: Content::Timer(timer("tick", 5)),
        folded_before: Some(before),
    };
    let counts = Counts { dead_letters: 1, ..Counts::default() };
    let mut running = running([
        SystemEntry::DeadLetter(0, 50, Box::new(letter.clone())),
        SystemEntry::Counts(counts),
        SystemEntry::Timer(timer("due", 60)),
        SystemEntry::Timer(timer("late", 300)),
    ]);
    // All else is folded again; one timer is due that was set since.
    assert!(running.refold.is_none());
    let called =
        |timers| Event::Called(CallOutcome::Folded { writes: WriteSet::default(), outputs: Vec::new(), timers });
    step(&mut running, 50, Event::Redrive(0, Box::new(letter)));
    step(&mut running, 60, called(vec![("tick".into(), Some(65)), ("later".into(), Some(400))]));
    let knows =
        |running: &Running, timer| running.folded_before(&Work::Timers(vec![timer])).map(|before| before.rewind);
    assert_eq!(knows(&running, timer("tick", 65)), Some(CommitNumber(3)));
    assert_eq!(knows(&running, timer("due", 60)), None);
    assert_eq!(knows(&running, timer("later", 400)), None);
    // Once all of them have fired there is nothing more to know.
    step(&mut running, 70, called(Vec::new()));
    step(&mut running, 80, called(Vec::new()));
    step(&mut running, 5_000, Event::Tick);
    step(&mut running, 5_001, called(Vec::new()));
    step(&mut running, 5_002, Event::Put(PutReply::Applied));
    step(&mut running, 6_000, Event::Tick);
    assert!(running.refold.is_none(), "{:?}", running.refold);
}

#[test]
fn what_was_undone_is_taken_back_also_by_a_task_that_is_about_to_stop_for_what_it_ran() {
    let undone = Undone { since: 2, until: 3, outputs: RefoldedOutputs::Withhold };
    let back = Assignment { revision: 3, undone: [undone].into_iter().collect(), ..DeploymentNumber(1).into() };
    let told = |cause: StopCause| {
        let mut running = running([]);
        running.draining = Some(Draining::Stop(cause));
        step(&mut running, 20, Event::Assign(back.clone()))
    };
    let (effects, cause) = told(StopCause::Logic("it cannot go on".into()));
    assert!(matches!(effects[..], [Effect::Rewind(_)]) && cause.is_none(), "{effects:?} {cause:?}");
    assert_eq!(told(StopCause::Asked).1, Some(StopCause::Asked));
}

#[test]
fn what_a_rewind_reads_again_is_as_old_as_the_log_says_and_older_than_the_job_where_that_is_not_past_its_backlog() {
    let pinned_from = |logged_ms: u64, unread_ms: u64| {
        let mut running = running([]);
        let mut meta = JobMeta::of_one_task(shard().id, [(shard().id, HashRange::ALL)]);
        (meta.created_ms, meta.inputs[0].created_ms) = (1_000, 10);
        running.meta = meta.into();
        running.unread = Unread { from_ms: logged_ms, backlog_from_ms: Some(0) };
        let entry = PositionEntry { position: after(9), unread_from_ms: unread_ms, range: HashRange::ALL };
        running.intake = Intake::new(intake_rules(TaskId(0), &running.meta, &running.rules), [(key(), entry)], []);
        running.assign(Assignment { revision: 3, ..DeploymentNumber(3).into() });
        step(&mut running, 5_000, Event::Tick);
        let due = SystemEntry::Timer(Timer { due_ms: 1, name: "t".into() });
        running.timers = Found::of(Outbox::new(running.meta.incarnation, TaskId(0)), vec![due]).timers;
        step(&mut running, 5_001, Event::Tick);
        let folded = CallOutcome::Folded { writes: WriteSet::default(), outputs: Vec::new(), timers: Vec::new() };
        step(&mut running, 5_002, Event::Called(folded));
        step(&mut running, 6_000, Event::Tick);
        running.pins.kept.last().map(|pin| (pin.revision, pin.unread_from_ms))
    };
    assert_eq!(pinned_from(1_000, 1_000), Some((3, 10)));
    assert_eq!(pinned_from(1_000, 1_001), Some((3, 1_000)));
    assert_eq!(pinned_from(2_000, 3_000), Some((3, 2_000)));
}

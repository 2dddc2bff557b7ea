use std::sync::atomic::AtomicU64;
use std::sync::mpsc;

use super::lanes::{SLOW_STARTS_MAX, SLOW_TURNS_MAX};
use super::priority::{core_time, this_thread};
use super::*;

const LIMIT: Duration = Duration::from_secs(20);

/// Something whose turns last until it is let go, or not at all.
struct Piece {
    owner: usize,
    turn: TurnState,
    turns: AtomicU64,
    spins: AtomicBool,
    /// Its last call in a turn is a short one.
    ends_short: AtomicBool,
    held: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Piece {
    fn quick() -> Arc<Self> {
        Self::of(0)
    }

    fn of(owner: usize) -> Arc<Self> {
        Arc::new(Self {
            owner,
            turn: TurnState::default(),
            turns: AtomicU64::new(0),
            spins: AtomicBool::new(false),
            ends_short: AtomicBool::new(false),
            held: Mutex::new(None),
        })
    }

    fn held() -> (Arc<Self>, mpsc::Sender<()>) {
        let (sender, receiver) = mpsc::channel();
        let piece = Self::quick();
        *piece.held.lock().unwrap() = Some(receiver);
        (piece, sender)
    }

    fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }
}

/// Something that calls only where it may, and has more to do until then.
#[derive(Default)]
struct Caller {
    turn: TurnState,
    calls: AtomicU64,
    held: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Runnable for Caller {
    fn turn_state(&self) -> &TurnState {
        &self.turn
    }

    fn owner(&self) -> usize {
        0
    }

    fn turn(&self) -> bool {
        let may_call = self.turn.may_call();
        if may_call {
            if let Some(held) = self.held.lock().unwrap().take() {
                let _ = held.recv();
            }
            self.turn.called(Duration::ZERO);
            self.calls.fetch_add(1, Ordering::Relaxed);
        }
        !may_call
    }

    fn panicked(&self) {}
}

impl Runnable for Piece {
    fn turn_state(&self) -> &TurnState {
        &self.turn
    }

    fn owner(&self) -> usize {
        self.owner
    }

    fn turn(&self) -> bool {
        let began = Instant::now();
        if let Some(held) = self.held.lock().unwrap().take() {
            let _ = held.recv();
        }
        while self.spins.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        self.turn.called(began.elapsed());
        if self.ends_short.load(Ordering::Relaxed) {
            self.turn.called(Duration::ZERO);
        }
        self.turns.fetch_add(1, Ordering::Relaxed);
        false
    }

    fn panicked(&self) {}
}

fn notify(scheduler: &Scheduler, piece: &Arc<Piece>) {
    let runnable: Arc<dyn Runnable> = piece.clone();
    scheduler.notify(&runnable);
}

fn wait(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LIMIT, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn turns_that_do_not_end_hold_up_nobody() {
    let scheduler = Scheduler::start(2).unwrap();
    let held: Vec<_> = (0..10).map(|_| Piece::held()).collect();
    held.iter().for_each(|(piece, _)| notify(&scheduler, piece));
    let quick: Vec<_> = (0..100).map(|_| Piece::quick()).collect();
    for round in 1..=3 {
        quick.iter().for_each(|piece| notify(&scheduler, piece));
        wait("a turn of everyone", || quick.iter().all(|piece| piece.turns() == round));
    }
    assert!(held.iter().all(|(piece, _)| piece.turns() == 0));
    for (_, let_go) in &held {
        let_go.send(()).unwrap();
    }
    wait("the end of the long turns", || held.iter().all(|(piece, _)| piece.turns() == 1));
    held.iter().for_each(|(piece, _)| notify(&scheduler, piece));
    wait("another turn of the slow", || held.iter().all(|(piece, _)| piece.turns() == 2));
    scheduler.close();
    wait("the end of all threads", || scheduler.lock().is_over());
}

#[test]
fn after_a_turn_that_kept_a_core_busy_turns_begin_in_the_slow_lane_until_one_is_short() {
    let scheduler = Scheduler::start(1).unwrap();
    let piece = Piece::quick();
    piece.spins.store(true, Ordering::Relaxed);
    notify(&scheduler, &piece);
    wait("the slow lane", || piece.turn.slow.load(Ordering::Relaxed));
    piece.spins.store(false, Ordering::Relaxed);
    wait("the end of its turn", || piece.turns() == 1);
    assert!(piece.turn.slow.load(Ordering::Relaxed));
    notify(&scheduler, &piece);
    wait("a short turn", || piece.turns() == 2);
    assert!(!piece.turn.slow.load(Ordering::Relaxed));
    scheduler.close();
    wait("the end of all threads", || scheduler.lock().is_over());
}

#[test]
fn what_becomes_short_within_a_turn_and_has_more_to_do_is_taken_on_by_those_who_wait() {
    let scheduler = Scheduler::start(1).unwrap();
    let piece = Piece::quick();
    piece.spins.store(true, Ordering::Relaxed);
    piece.ends_short.store(true, Ordering::Relaxed);
    notify(&scheduler, &piece);
    wait("the slow lane", || piece.turn.slow.load(Ordering::Relaxed));
    notify(&scheduler, &piece);
    piece.spins.store(false, Ordering::Relaxed);
    wait("the next turn", || piece.turns() == 2);
    scheduler.close();
    wait("the end of all threads", || scheduler.lock().is_over());
}

#[test]
fn what_is_told_while_it_runs_runs_again() {
    let scheduler = Scheduler::start(1).unwrap();
    let (piece, let_go) = Piece::held();
    notify(&scheduler, &piece);
    wait("its turn", || piece.turn.standing.load(Ordering::Relaxed) == RUNNING);
    notify(&scheduler, &piece);
    notify(&scheduler, &piece);
    let_go.send(()).unwrap();
    wait("its second turn", || piece.turns() == 2);
    scheduler.close();
    wait("the end of all threads", || scheduler.lock().is_over());
    assert_eq!(piece.turns(), 2);
}

/// The lanes of a machine, its time standing still unless moved.
struct Machine {
    lanes: Lanes,
    now: Instant,
    idle: Vec<ThreadNumber>,
    busy: Vec<ThreadNumber>,
    lowered: usize,
}

impl Machine {
    fn new(cores: usize) -> Self {
        let lanes = Lanes::new(cores);
        Self { lanes, now: Instant::now(), idle: Vec::new(), busy: Vec::new(), lowered: 0 }
    }

    /// Lets time pass; every thread there is takes what it may.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        let review = self.lanes.review(self.now);
        self.lowered += review.lowered.len();
        for Needed { thread, .. } in review.needed {
            // No system thread has this number, so that time that passes counts in place of time on a core.
            self.lanes.arrived(thread, Some(u32::MAX));
            self.idle.push(thread);
        }
        for thread in std::mem::take(&mut self.idle) {
            match self.lanes.take(thread, self.now) {
                Take::Run(_) => self.busy.push(thread),
                Take::Wait => self.idle.push(thread),
                Take::Leave => {}
            }
        }
    }

    fn push(&mut self, lane: Seat) {
        self.lanes.push(Piece::quick(), lane);
    }

    fn end_all(&mut self) {
        for thread in std::mem::take(&mut self.busy) {
            self.lanes.done(thread);
            self.idle.push(thread);
        }
    }
}

#[test]
fn a_turn_past_its_quantum_makes_room_and_its_thread_is_lowered_later() {
    let mut machine = Machine::new(2);
    (0..4).for_each(|_| machine.push(Seat::Fast));
    machine.pass(Duration::ZERO);
    assert_eq!(machine.busy.len(), 2);
    machine.pass(QUANTUM - Duration::from_millis(1));
    assert_eq!(machine.busy.len(), 2);
    machine.pass(Duration::from_millis(1));
    assert_eq!((machine.busy.len(), machine.lowered), (4, 0));
    machine.pass(SLOW_CALL - Duration::from_millis(1));
    assert_eq!(machine.lowered, 0);
    machine.pass(Duration::from_millis(1));
    assert_eq!(machine.lowered, 2);
    machine.end_all();
    machine.pass(Duration::ZERO);
    assert_eq!(machine.idle.len(), 2, "lowered threads leave, and one for each core stays");
}

#[test]
fn threads_are_bounded_whatever_loops() {
    let mut machine = Machine::new(2);
    (0..200).for_each(|_| machine.push(Seat::Fast));
    (0..200).for_each(|_| machine.push(Seat::Slow));
    for _ in 0..200 {
        machine.pass(SLOW_CALL);
    }
    assert_eq!(machine.busy.len(), SLOW_TURNS_MAX + 2);
    machine.end_all();
    for _ in 0..10 {
        machine.pass(Duration::ZERO);
    }
    assert_eq!(machine.busy.len(), SLOW_STARTS_MAX / 2 + 2);
    assert!(machine.idle.len() <= 2, "spare threads: {}", machine.idle.len());
}

#[test]
fn turns_of_one_owner_leave_room_for_those_of_others() {
    let mut machine = Machine::new(1);
    for (owner, begun) in [(1, 32), (2, 16), (3, 8), (4, 4), (5, 2), (6, 1)] {
        let before = machine.busy.len();
        (0..100).for_each(|_| machine.lanes.push(Piece::of(owner), Seat::Slow));
        machine.pass(Duration::ZERO);
        assert_eq!((machine.busy.len() - before, machine.idle.len()), (begun, 1), "owner {owner}");
        machine.pass(Duration::ZERO);
        assert_eq!(machine.busy.len() - before, begun, "no thread is started that has nothing to begin");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn time_on_a_core_is_told_of_threads_that_work() {
    let thread = this_thread().unwrap();
    let (before, began) = (core_time(thread).unwrap(), Instant::now());
    while core_time(thread).unwrap() < before + Duration::from_millis(50) {
        assert!(began.elapsed() < LIMIT);
    }
    assert!(began.elapsed() >= Duration::from_millis(40), "{:?}", began.elapsed());
    assert_eq!(core_time(u32::MAX), None);
}

#[test]
fn what_may_wait_for_others_never_does_so_in_the_fast_lane() {
    let scheduler = Scheduler::start(1).unwrap();
    let quick = Piece::quick();
    let callers: Vec<_> = (0..SLOW_STARTS_MAX + 8)
        .map(|_| {
            let (let_go, held) = mpsc::channel();
            let caller = Arc::new(Caller { held: Mutex::new(Some(held)), ..Caller::default() });
            caller.turn.waits_for_others(true);
            (caller, let_go)
        })
        .collect();
    for round in 1..=2 {
        for (caller, _) in &callers {
            let runnable: Arc<dyn Runnable> = caller.clone();
            scheduler.notify(&runnable);
        }
        // The one place of the fast lane is free, however many wait.
        for turn in 1..=20 {
            notify(&scheduler, &quick);
            wait("a quick turn", || quick.turns() == (round - 1) * 20 + turn);
        }
        if round == 1 {
            assert!(callers.iter().all(|(caller, _)| caller.calls.load(Ordering::Relaxed) == 0));
            callers.iter().for_each(|(_, let_go)| let_go.send(()).unwrap());
        }
        wait("a call of everyone", || callers.iter().all(|(caller, _)| caller.calls.load(Ordering::Relaxed) == round));
        // They wait for others whatever their last call was like, until told otherwise.
        assert!(callers.iter().all(|(caller, _)| caller.turn.begun_slow.load(Ordering::Relaxed)));
    }
    let (caller, _) = &callers[0];
    caller.turn.waits_for_others(false);
    let runnable: Arc<dyn Runnable> = caller.clone();
    scheduler.notify(&runnable);
    wait("a call in the fast lane", || caller.calls.load(Ordering::Relaxed) == 3);
    assert!(!caller.turn.begun_slow.load(Ordering::Relaxed));
    scheduler.close();
    wait("the end of all threads", || scheduler.lock().is_over());
}

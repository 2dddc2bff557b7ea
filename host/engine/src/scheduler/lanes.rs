//! The two lanes: which turn is in which, who waits, and how many threads there are. In the fast lane are never more turns
//! than cores; in both together never more than there are bounds for. Nothing here starts a thread or waits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::priority::{self, SystemThread};
use super::{QUANTUM, Runnable};

/// Most turns in the slow lane, and with the cores and their spares the most threads. When all are taken, a turn past its
/// quantum keeps its place in the fast lane until one ends.
pub const SLOW_TURNS_MAX: usize = 128;
/// Turns that begin in the slow lane leave this half of it to those that are moved there. An owner has at most as many turns in the
/// lane as are left of this, so that none takes all of it, however long its turns last.
pub const SLOW_STARTS_MAX: usize = SLOW_TURNS_MAX / 2;
/// A turn that was in the slow lane for so long, on a core and not waiting for one, has those after it begin there, and its
/// thread gets a lower priority. Longer than a quantum, so that a batch that is somewhat long costs no thread.
pub const SLOW_CALL: Duration = Duration::from_millis(250);
/// For so long a turn in the slow lane may yet be one that is only somewhat long. Of these there is one for each core: were
/// there many, as under a load of large batches, each would last the longer and hold its memory meanwhile.
const TRIAL: Duration = Duration::from_millis(500);

/// Which thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ThreadNumber(pub u64);

/// What a thread is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// Turns of the fast lane; one may have become slow under its hands.
    Fast,
    /// Turns of the slow lane, at a lower priority, while there are any.
    Slow,
}

/// What a thread does next.
pub enum Take {
    /// A turn of this.
    Run(Arc<dyn Runnable>),
    /// Waits until told.
    Wait,
    /// Ends.
    Leave,
}

/// A thread to start.
#[derive(Debug, PartialEq, Eq)]
pub struct Needed {
    /// Which.
    pub thread: ThreadNumber,
    /// For what.
    pub seat: Seat,
}

/// What came of looking at all turns.
#[derive(Debug, Default)]
pub struct Review {
    /// Whether a place in the fast lane was vacated.
    pub moved: bool,
    /// Threads whose turns last so long that others are to come before them.
    pub lowered: Vec<SystemThread>,
    /// Threads to start.
    pub needed: Vec<Needed>,
}

struct Thread {
    seat: Seat,
    system: Option<SystemThread>,
    turn: Option<Turn>,
}

impl Thread {
    /// Whether it is in the midst of a turn that has left the fast lane.
    fn is_held(&self) -> bool {
        self.seat == Seat::Fast && self.turn.as_ref().is_some_and(|turn| turn.slow.is_some())
    }

    /// Whether its turn has left the fast lane and has yet to show whether it is slow indeed.
    fn is_on_trial(&self, now: Instant) -> bool {
        let since = self.turn.as_ref().and_then(|turn| turn.slow);
        self.is_held() && since.is_some_and(|since| now.saturating_duration_since(since.at) < TRIAL)
    }
}

struct Turn {
    of: Arc<dyn Runnable>,
    began: Instant,
    /// Since when it is in the slow lane.
    slow: Option<Used>,
}

/// What a thread had used of cores at some time.
#[derive(Clone, Copy, Debug)]
struct Used {
    at: Instant,
    /// None where the system does not tell.
    core: Option<Duration>,
}

impl Used {
    fn by(thread: Option<SystemThread>, at: Instant) -> Self {
        Self { at, core: thread.and_then(priority::core_time) }
    }

    /// How long a core was used since then, or else how much time has passed.
    fn since(self, before: Self) -> Duration {
        let core = self.core.zip(before.core).map(|(now, before)| now.saturating_sub(before));
        core.unwrap_or_else(|| self.at.saturating_duration_since(before.at))
    }
}

/// The lanes.
pub struct Lanes {
    cores: usize,
    fast: VecDeque<Arc<dyn Runnable>>,
    slow: VecDeque<Arc<dyn Runnable>>,
    threads: BTreeMap<ThreadNumber, Thread>,
    next_thread: ThreadNumber,
    closed: bool,
}

impl Lanes {
    /// Lanes for so many cores, without threads yet.
    pub fn new(cores: usize) -> Self {
        Self {
            cores,
            fast: VecDeque::new(),
            slow: VecDeque::new(),
            threads: BTreeMap::new(),
            next_thread: ThreadNumber(0),
            closed: false,
        }
    }

    /// Something is ready for a turn, in the lane that its last call earned it.
    pub fn push(&mut self, runnable: Arc<dyn Runnable>, lane: Seat) {
        match lane {
            Seat::Fast => self.fast.push_back(runnable),
            Seat::Slow => self.slow.push_back(runnable),
        }
    }

    /// What a thread is there for by now.
    pub fn seat(&mut self, thread: ThreadNumber) -> Seat {
        self.thread(thread).seat
    }

    /// Threads end once nothing is queued.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether it was closed and everything has ended.
    pub fn is_over(&self) -> bool {
        self.closed && self.fast.is_empty() && self.slow.is_empty() && self.threads.is_empty()
    }

    /// A thread that was needed is there.
    pub fn arrived(&mut self, thread: ThreadNumber, system: Option<SystemThread>) {
        self.thread(thread).system = system;
    }

    /// A thread that was needed could not be started.
    pub fn gone(&mut self, thread: ThreadNumber) {
        self.threads.remove(&thread);
    }

    /// A thread's turn is over, if it had one.
    pub fn done(&mut self, thread: ThreadNumber) {
        self.thread(thread).turn = None;
    }

    /// What a thread does next. One that leaves is forgotten.
    pub fn take(&mut self, thread: ThreadNumber, now: Instant) -> Take {
        let slow = self.thread(thread).seat == Seat::Slow;
        let start = if slow { self.starts().next() } else { None };
        let next = match start {
            Some(place) => self.slow.remove(place),
            None if !slow && self.turns(false) < self.cores => self.fast.pop_front(),
            None => None,
        };
        if let Some(of) = next {
            let thread = self.thread(thread);
            let slow = slow.then(|| Used::by(thread.system, now));
            thread.turn = Some(Turn { of: of.clone(), began: now, slow });
            return Take::Run(of);
        }
        // Each core may have one thread to spare, for the next turn that becomes slow.
        let spare = !slow && self.threads_for_fast_turns() <= 2 * self.cores;
        if spare && !(self.closed && self.fast.is_empty()) {
            return Take::Wait;
        }
        self.threads.remove(&thread);
        Take::Leave
    }

    /// Moves turns past their quantum to the slow lane while it has room, and says which threads are needed now.
    pub fn review(&mut self, now: Instant) -> Review {
        let mut review = Review::default();
        let mut slow_turns = self.turns(true);
        let mut on_trial = self.threads.values().filter(|thread| thread.is_on_trial(now)).count();
        for thread in self.threads.values_mut() {
            let Some(turn) = &mut thread.turn else { continue };
            let past = now.saturating_duration_since(turn.began) >= QUANTUM;
            if turn.slow.is_none() && past && slow_turns < SLOW_TURNS_MAX && on_trial < self.cores {
                turn.slow = Some(Used::by(thread.system, now));
                slow_turns += 1;
                on_trial += 1;
                review.moved = true;
            } else if thread.seat == Seat::Fast
                && turn.slow.is_some_and(|before| Used::by(thread.system, now).since(before) >= SLOW_CALL)
            {
                turn.of.turn_state().begins_slow();
                thread.seat = Seat::Slow;
                review.lowered.extend(thread.system);
            }
        }
        if !self.closed || !self.fast.is_empty() {
            for _ in self.threads_for_fast_turns()..self.cores {
                review.needed.push(self.add(Seat::Fast));
            }
        }
        let idle = |thread: &&Thread| thread.seat == Seat::Slow && thread.turn.is_none();
        let on_their_way = self.threads.values().filter(idle).count();
        for _ in on_their_way..self.starts().count() {
            review.needed.push(self.add(Seat::Slow));
        }
        review
    }

    fn add(&mut self, seat: Seat) -> Needed {
        let thread = self.next_thread;
        self.next_thread.0 += 1;
        self.threads.insert(thread, Thread { seat, system: None, turn: None });
        Needed { thread, seat }
    }

    fn thread(&mut self, thread: ThreadNumber) -> &mut Thread {
        self.threads.get_mut(&thread).expect("a thread is known until it leaves")
    }

    /// Turns under way in a lane.
    fn turns(&self, slow: bool) -> usize {
        let turns = self.threads.values().filter_map(|thread| thread.turn.as_ref());
        turns.filter(|turn| turn.slow.is_some() == slow).count()
    }

    /// Places in the slow queue of those that may begin now, one after another.
    fn starts(&self) -> impl Iterator<Item = usize> + '_ {
        let mut free = SLOW_STARTS_MAX.saturating_sub(self.turns(true));
        let mut turns: BTreeMap<usize, usize> = BTreeMap::new();
        let under_way = self.threads.values().filter_map(|thread| thread.turn.as_ref());
        for turn in under_way.filter(|turn| turn.slow.is_some()) {
            *turns.entry(turn.of.owner()).or_default() += 1;
        }
        self.slow.iter().enumerate().filter_map(move |(place, of)| {
            let turns = turns.entry(of.owner()).or_default();
            let begins = *turns < free;
            if begins {
                *turns += 1;
                free -= 1;
            }
            begins.then_some(place)
        })
    }

    /// Threads that run a turn of the fast lane, or could.
    fn threads_for_fast_turns(&self) -> usize {
        self.threads.values().filter(|thread| thread.seat == Seat::Fast && !thread.is_held()).count()
    }
}

//! Room for instances. Each task has room for one, which nobody else takes: what is compared with it or comes in its place has room
//! beside, and what is only tried has its own; whoever finds none goes on without.

/// Memories and tables for which room is kept, for each instance: as many as a component may have.
pub const MEMORIES_PER_INSTANCE: u32 = 4;
pub const TABLES_PER_INSTANCE: u32 = 8;
/// Tasks of a host, over all its jobs.
pub const TASKS_MAX: u32 = 4_096;
/// Deployments tried at a time, of all jobs.
pub const TRIED_AT_ONCE: u32 = 2;
/// Instances beside each task's own: one that comes in its place, and one that is compared with it.
const BESIDE_PER_TASK: u32 = 2;
/// Instances of many tasks, together with those beside them, unless that leaves fewer beside them than [`BESIDE_MIN`].
const BESIDE_AND_OWN: u32 = 4_096;
/// Instances beside those of many tasks, at least.
const BESIDE_MIN: u32 = 512;

/// Address space of an instance: memories of 4 GiB each, behind each of which wasmtime leaves 32 MiB unmapped.
const INSTANCE_BYTES: u64 = MEMORIES_PER_INSTANCE as u64 * ((4 << 30) + (32 << 20));
/// Address space below a program on x86-64: Linux puts it at two thirds of 128 TiB, or higher. All instances lie in one stretch of it.
const BELOW_PROGRAM_BYTES: u64 = (128 << 40) / 3 * 2;
/// Where in it the heap may begin, which is somewhere else at each start: mimalloc asks for a place between 2 and 6 TiB, and goes upwards.
const BELOW_HEAP_BYTES: u64 = 8 << 40;
const _: () =
    assert!((TASKS_MAX + BESIDE_MIN + TRIED_AT_ONCE) as u64 * INSTANCE_BYTES < BELOW_PROGRAM_BYTES - BELOW_HEAP_BYTES);

/// For how many instances there is room.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub(super) tasks: u32,
    pub(super) beside: u32,
    pub(super) tried: u32,
}

impl Room {
    /// For so many tasks.
    ///
    /// # Panics
    /// When those are more than [`TASKS_MAX`].
    pub fn for_tasks(tasks: u32) -> Self {
        assert!(tasks <= TASKS_MAX, "there is no room for {tasks} tasks");
        let beside = (tasks * BESIDE_PER_TASK).min((BESIDE_AND_OWN - tasks).max(BESIDE_MIN));
        Self { tasks, beside, tried: TRIED_AT_ONCE }
    }

    /// All together.
    pub(super) fn instances(self) -> u32 {
        self.tasks + self.beside + self.tried
    }
}

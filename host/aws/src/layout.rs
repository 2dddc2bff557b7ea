//! Where everything is in the table. Every key is under a job's incarnation, but the meta item by which a job's name finds
//! its incarnation, and components, which jobs share.
//!
//! | pk | sk | what | attributes |
//! |---|---|---|---|
//! | `job/NAME` | `meta` | what the job is from its creation on | `format` N, `data` B |
//! | `INC/tasks` | `TTTTT` | the task's row | `epoch` N, `owner` B |
//! | `INC/TTTTT` | `log/N` | a commit | `id` B, `kind` N (0 fence, 1 step), `epoch` N, `data` B |
//! | `INC/TTTTT` | `snapshot/N/ID` | a manifest | `data` B |
//! | `INC/TTTTT/part/K` | `N/ID/IIIIIIII` | a part of commit or snapshot ID, K = I mod 8 | `data` B |
//! | `INC/idle` | `HOST/IIIIIIII` | idle positions of a host, a chunk | `data` B |
//! | `INC/deployments` | `deployment/N` | a deployment of the job | `data` B |
//! | `INC/deployments` | `rollout` | which of them its tasks are to run | `data` B |
//! | `component/DIGEST` | `chunk/IIIIIIII`, `chunk/GGGGGGGG/IIIIIIII` | a piece of a component, of generation 0 or a later one | `data` B |
//! | `component/DIGEST` | `head` | says that all pieces are there, of which generation, and when the component was wanted last; or that it is gone | `size` N, `chunks` N, `generation` N, `touches` N, `wanted_ms` N; once it is gone `gone_ms` N |
//! | `component/DIGEST` | `used/INC` | until when a job needs the component; 0 for as long as it says nothing else | `until_ms` N, `pins` N |
//! | `components` | `DIGEST` | for listing | `size` N, `generation` N |
//!
//! `INC`, `ID`, `HOST` and `DIGEST` are in lower-case hexadecimal, 32 characters and for a digest 64; `TTTTT` is a task in 5
//! decimal digits, `N` a number of a commit or deployment in 20, `IIIIIIII` an index and `GGGGGGGG` a generation in 8, `K` one digit. All have
//! leading zeros, so that keys sort as numbers do. `INC/TTTTT` has the log and the manifests, which `l` and `s` tell apart.
//!
//! | `data` of | what |
//! |---|---|
//! | a commit | the stored head; see `pelton_core::codec` |
//! | a part | a piece of a commit or of a snapshot, as its maker cut it |
//! | a manifest, idle positions, a job's meta item, a deployment, a rollout | one byte, the format, which is 1; then a protobuf message |
//! | a piece of a component | its next bytes, 380,000 but in the last |
//!
//! An item has exactly these attributes. More, fewer or others are an error of the reader, which names the item. Heads and entries
//! from before components were collected have `size` and `chunks` alone: they are of generation 0.

use pelton_core::id::{CommitId, CommitNumber, DeploymentNumber, Digest, HostId, Incarnation, TaskId};

/// The partition key's attribute.
pub const PK: &str = "pk";
/// The sort key's attribute.
pub const SK: &str = "sk";
/// Parts are spread over so many partition keys, because one bears only so much.
pub const PART_SPREAD: u32 = 8;
/// Sort keys of the log begin with this.
pub const LOG: &str = "log/";
/// Sorts behind every key that continues a prefix: no key has a character above it.
pub const LAST: &str = "~";
/// `kind` of a fence.
pub const KIND_FENCE: u64 = 0;
/// `kind` of a step.
pub const KIND_STEP: u64 = 1;
/// Sort keys of manifests begin with this.
pub const SNAPSHOT: &str = "snapshot/";
/// Partition key of the list of components.
pub const COMPONENTS: &str = "components";
/// Sort key of what says that a component is whole.
pub const HEAD: &str = "head";
/// Sort keys of what says which jobs use a component begin with this.
pub const USED: &str = "used/";
/// Sort key of a job's meta item.
pub const META: &str = "meta";

/// Sort keys of deployments begin with this.
pub const DEPLOYMENT: &str = "deployment/";
/// Sort key of what a job's tasks are to run.
pub const ROLLOUT: &str = "rollout";

/// Partition key of a job's meta item.
pub fn job(name: &str) -> String {
    format!("job/{name}")
}

/// Partition key of a job's task rows.
pub fn tasks(incarnation: Incarnation) -> String {
    format!("{incarnation}/tasks")
}

/// Sort key of a task's row.
pub fn task_row(task: TaskId) -> String {
    format!("{:05}", task.0)
}

/// Partition key of a task's log and manifests.
pub fn task(incarnation: Incarnation, task: TaskId) -> String {
    format!("{incarnation}/{:05}", task.0)
}

/// Sort key of a commit.
pub fn log(number: CommitNumber) -> String {
    format!("{LOG}{:020}", number.0)
}

/// The number of the commit with this sort key, if it is one's.
pub fn log_number(sk: &str) -> Option<CommitNumber> {
    let number = sk.strip_prefix(LOG)?.parse().ok().map(CommitNumber)?;
    // What was not written by `log` would not sort where its number belongs.
    (log(number) == sk).then_some(number)
}

/// Sort key of a manifest.
pub fn snapshot(at: CommitNumber, id: CommitId) -> String {
    format!("{SNAPSHOT}{:020}/{id}", at.0)
}

/// Partition key of the parts of a task with this index mod [`PART_SPREAD`].
pub fn parts(incarnation: Incarnation, task: TaskId, index: u32) -> String {
    format!("{incarnation}/{:05}/part/{}", task.0, index % PART_SPREAD)
}

/// Sort key of a part.
pub fn part(number: CommitNumber, id: CommitId, index: u32) -> String {
    format!("{:020}/{id}/{index:08}", number.0)
}

/// Sort key below which lie the parts of lower numbers.
pub fn parts_below(number: CommitNumber) -> String {
    format!("{:020}", number.0)
}

/// Partition key of idle positions.
pub fn idle(incarnation: Incarnation) -> String {
    format!("{incarnation}/idle")
}

/// Sort key of a chunk of a host's idle positions.
pub fn idle_chunk(host: HostId, index: usize) -> String {
    format!("{host}/{index:08}")
}

/// Partition key of a job's deployments.
pub fn deployments(incarnation: Incarnation) -> String {
    format!("{incarnation}/deployments")
}

/// Sort key of a deployment.
pub fn deployment(number: DeploymentNumber) -> String {
    format!("{DEPLOYMENT}{:020}", number.0)
}

/// Partition key of a component.
pub fn component(digest: Digest) -> String {
    format!("component/{digest}")
}

/// Sort key of a piece of a component.
pub fn component_chunk(generation: u64, index: u64) -> String {
    match generation {
        0 => format!("chunk/{index:08}"),
        _ => format!("chunk/{generation:08}/{index:08}"),
    }
}

/// Sort key of a job's use of a component.
pub fn component_use(job: Incarnation) -> String {
    format!("{USED}{job}")
}

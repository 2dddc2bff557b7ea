//! Dead letters, as the API tells them.

use pelton_core::dead_letter::{Content, DeadLetter};
use pelton_core::id::{ShardKey, TaskId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::page::Page;
use super::state::{text, to_base64};
use super::task::PlaceView;

/// Something that a task set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LetterView {
    /// The task that holds it.
    pub task: u16,
    /// Its number there; never used again.
    pub number: u64,
    /// `out-of-range`, `stray`, `poison`, `failed` or `gap`.
    pub cause: String,
    /// Why, for people.
    pub message: String,
    /// How often the logic failed with it.
    pub attempts: u32,
    /// When it was set aside, milliseconds since 1970.
    pub at_ms: u64,
    /// The commit of a rewind, where what it holds was folded before that: outputs are withheld when it is redriven, or emitted
    /// again, as was asked for then.
    pub folded_before_rewind: Option<u64>,
    /// What it is.
    pub content: ContentView,
}

/// What a dead letter holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ContentView {
    /// A record.
    Record {
        /// Name of the stream.
        stream: String,
        /// Id of the shard that delivered it.
        shard: String,
        /// Kinesis' number of it, or of the aggregate it came in.
        sequence_number: String,
        /// Its place in the aggregate; 0 for a plain record.
        sub_sequence_number: u64,
        /// When it arrived at Kinesis, about, milliseconds since 1970.
        arrived_ms: u64,
        /// Its partition key.
        partition_key: String,
        /// Its payload.
        data_base64: String,
        /// The same, where it is UTF-8.
        data_text: Option<String>,
    },
    /// A part of a shard that can no longer be read.
    Gap {
        /// Name of the stream.
        stream: String,
        /// Id of the shard.
        shard: String,
        /// The last position reached.
        from: PlaceView,
        /// From where on records can be read.
        to: PlaceView,
    },
    /// A timer.
    Timer {
        /// Its name.
        name: String,
        /// When it was due, milliseconds since 1970.
        due_ms: u64,
    },
}

impl LetterView {
    /// The view of a letter of a job that reads these streams.
    pub fn new(task: TaskId, number: u64, letter: &DeadLetter, streams: &[String]) -> Self {
        let named = |key: &ShardKey| (streams[usize::from(key.stream.0)].clone(), key.shard.to_string());
        let content = match &letter.content {
            Content::Record(key, record) => {
                let (stream, shard) = named(key);
                ContentView::Record {
                    stream,
                    shard,
                    sequence_number: record.place.sequence.to_string(),
                    sub_sequence_number: record.place.sub_sequence,
                    arrived_ms: record.arrived_ms,
                    partition_key: record.partition_key.clone(),
                    data_base64: to_base64(&record.data),
                    data_text: text(&record.data),
                }
            }
            Content::Gap { shard, from, to } => {
                let (stream, shard) = named(shard);
                ContentView::Gap { stream, shard, from: (*from).into(), to: (*to).into() }
            }
            Content::Timer(timer) => ContentView::Timer { name: timer.name.clone(), due_ms: timer.due_ms },
        };
        Self {
            task: task.0,
            number,
            cause: letter.cause.name().into(),
            message: letter.message.clone(),
            attempts: letter.attempts,
            at_ms: letter.at_ms,
            folded_before_rewind: letter.folded_before.map(|before| before.rewind.0),
            content,
        }
    }
}

/// A page of a job's dead letters, by task and number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LetterPage {
    /// Name of the job.
    pub job: String,
    /// The letters.
    pub letters: Vec<LetterView>,
    /// Where the next page starts, as `TASK/NUMBER`; null after the last one.
    pub next: Option<String>,
}

impl Page for LetterPage {
    type Item = LetterView;

    fn parts(self) -> (Vec<LetterView>, Option<String>) {
        (self.letters, self.next)
    }
}

/// What was asked of a task about one of its dead letters. It is done soon; the letter tells by being gone, or by one attempt
/// more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LetterAsked {
    /// The task.
    pub task: u16,
    /// The letter.
    pub number: u64,
}

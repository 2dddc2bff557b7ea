//! The messages of a call, by output, in the order emitted to each. Nothing here knows which outputs the job has.

use crate::failure::Failure;
use crate::host;
use crate::host::{EmitRefusal, Message};
use crate::limits::{DATA_BYTES_MAX, PARTITION_KEY_CHARS_MAX, UNSENT_BYTES};

/// The messages of a call that the host does not have yet.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// A job has few outputs, and a task names fewer: looked up by going through them.
    outputs: Vec<Unsent>,
    bytes: usize,
}

/// The messages to one output, one after another in two arenas.
#[derive(Debug)]
struct Unsent {
    output: String,
    partition_keys: String,
    data: Vec<u8>,
    /// Where each message ends in the two.
    ends: Vec<[usize; 2]>,
}

impl Outbox {
    pub(crate) fn emit(&mut self, output: &str, partition_key: &str, data: &[u8]) -> Result<(), Failure> {
        // The host counts characters; counting them is needless when the bytes are already few enough.
        if partition_key.is_empty()
            || (partition_key.len() > PARTITION_KEY_CHARS_MAX
                && partition_key.chars().count() > PARTITION_KEY_CHARS_MAX)
        {
            return Err(EmitRefusal::PartitionKeySize(partition_key.chars().count() as u64).into_failure(output));
        }
        if data.len() > DATA_BYTES_MAX {
            return Err(EmitRefusal::DataSize(data.len() as u64).into_failure(output));
        }
        if self.bytes > UNSENT_BYTES {
            self.hand_over()?;
            self.clear();
        }
        let place = self.outputs.iter().position(|unsent| unsent.output == output).unwrap_or_else(|| {
            self.outputs.push(Unsent::new(output));
            self.outputs.len() - 1
        });
        self.outputs[place].push(partition_key, data);
        self.bytes += partition_key.len() + data.len() + size_of::<[usize; 2]>();
        Ok(())
    }

    /// Hands the messages to the host, one call an output.
    pub(crate) fn hand_over(&self) -> Result<(), Failure> {
        for unsent in self.outputs.iter().filter(|unsent| !unsent.ends.is_empty()) {
            host::emit_many(&unsent.output, &unsent.messages())
                .map_err(|refusal| refusal.into_failure(&unsent.output))?;
        }
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.outputs.iter_mut().for_each(Unsent::clear);
        self.bytes = 0;
    }
}

impl Unsent {
    fn new(output: &str) -> Self {
        Self { output: output.to_owned(), partition_keys: String::new(), data: Vec::new(), ends: Vec::new() }
    }

    fn push(&mut self, partition_key: &str, data: &[u8]) {
        self.partition_keys.push_str(partition_key);
        self.data.extend_from_slice(data);
        self.ends.push([self.partition_keys.len(), self.data.len()]);
    }

    fn messages(&self) -> Vec<Message<'_>> {
        let mut start = [0, 0];
        let cut = |end: &[usize; 2]| {
            let [key, data] = std::mem::replace(&mut start, *end);
            Message { partition_key: &self.partition_keys[key..end[0]], data: &self.data[data..end[1]] }
        };
        self.ends.iter().map(cut).collect()
    }

    fn clear(&mut self) {
        self.partition_keys.clear();
        self.data.clear();
        self.ends.clear();
    }
}

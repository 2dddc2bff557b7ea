//! The host's side of `pelton:task`: what a guest's imports do.

use bytes::Bytes;
use pelton_core::output::{OUTPUT_BYTES_MAX, Output, PARTITION_KEY_CHARS_MAX};

use super::bindings::list::pelton::task::{context, output, state, types};
use super::instance::HostState;
use super::limits::BATCH_OUTPUT_BYTES_MAX;

impl types::Host for HostState {}

impl state::Host for HostState {
    fn get(&mut self, key: Vec<u8>) -> Result<Option<Vec<u8>>, state::Error> {
        self.state.get(&key)
    }

    fn get_many(&mut self, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>, state::Error> {
        self.state.get_many(&keys)
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), state::Error> {
        self.state.write(vec![state::Write { key, value: Some(value) }])
    }

    fn delete(&mut self, key: Vec<u8>) -> Result<(), state::Error> {
        self.state.write(vec![state::Write { key, value: None }])
    }

    fn write_many(&mut self, writes: Vec<state::Write>) -> Result<(), state::Error> {
        self.state.write(writes)
    }

    fn scan(
        &mut self,
        start: Vec<u8>,
        end: Option<Vec<u8>>,
        direction: state::Direction,
        limit: u32,
        cursor: Option<Vec<u8>>,
    ) -> Result<state::Page, state::Error> {
        self.state.scan(&start, end.as_deref(), direction, limit, cursor.as_deref())
    }
}

impl output::Host for HostState {
    fn emit(&mut self, output: String, message: output::Message) -> Result<(), output::Error> {
        self.emit_all(output, vec![message])
    }

    fn emit_many(&mut self, output: String, messages: Vec<output::Message>) -> Result<(), output::Error> {
        self.emit_all(output, messages)
    }
}

impl HostState {
    fn emit_all(&mut self, output: String, messages: Vec<output::Message>) -> Result<(), output::Error> {
        if !self.identity.outputs.contains(&output) {
            return Err(output::Error::UnknownOutput(output));
        }
        let mut bytes = self.output_bytes;
        for message in &messages {
            let characters = message.partition_key.chars().count();
            if !(1..=PARTITION_KEY_CHARS_MAX).contains(&characters) {
                return Err(output::Error::PartitionKeySize(characters as u64));
            }
            if message.data.len() > OUTPUT_BYTES_MAX {
                return Err(output::Error::DataSize(message.data.len() as u64));
            }
            bytes += message.data.len() + message.partition_key.len();
        }
        if self.read_only || bytes > BATCH_OUTPUT_BYTES_MAX {
            let limit = if self.read_only { 0 } else { BATCH_OUTPUT_BYTES_MAX };
            return Err(output::Error::BatchFull(limit as u64));
        }
        self.output_bytes = bytes;
        self.outputs.extend(messages.into_iter().map(|message| Output {
            output: output.clone(),
            partition_key: message.partition_key,
            data: Bytes::from(message.data),
        }));
        Ok(())
    }
}

impl context::Host for HostState {
    fn job(&mut self) -> String {
        self.identity.job.to_string()
    }

    fn task(&mut self) -> u32 {
        self.identity.task.0.into()
    }

    fn tasks(&mut self) -> u32 {
        self.identity.tasks.get()
    }

    fn slice(&mut self) -> context::HashRange {
        let (start, end) = (self.identity.slice.start.0, self.identity.slice.end.0);
        context::HashRange {
            start_high: (start >> 64) as u64,
            start_low: start as u64,
            end_high: (end >> 64) as u64,
            end_low: end as u64,
        }
    }

    fn deployment(&mut self) -> u64 {
        self.identity.deployment.0
    }

    fn config(&mut self, key: String) -> Option<String> {
        self.identity.config.get(&key).cloned()
    }

    fn config_all(&mut self) -> Vec<(String, String)> {
        self.identity.config.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

//! The host's side of `pelton:task`: what a guest's imports do.

use bytes::Bytes;
use pelton_core::output::{OUTPUT_BYTES_MAX, Output, PARTITION_KEY_CHARS_MAX};

use super::bindings::list::pelton::task::{context, output, state, types};
use super::instance::HostState;
use super::limits::{Limit, OUTPUT_BYTES, Refused};

impl types::Host for HostState {}

impl state::Host for HostState {
    fn get(&mut self, key: Vec<u8>) -> Result<Option<Vec<u8>>, state::Error> {
        self.state.get(&key)
    }

    fn get_many(&mut self, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>, state::Error> {
        let answer = self.state.get_many(keys.iter().map(Vec::as_slice));
        self.noted(answer)
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), state::Error> {
        self.write(vec![state::Write { key, value: Some(value) }])
    }

    fn delete(&mut self, key: Vec<u8>) -> Result<(), state::Error> {
        self.write(vec![state::Write { key, value: None }])
    }

    fn write_many(&mut self, writes: Vec<state::Write>) -> Result<(), state::Error> {
        self.write(writes)
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
    fn write(&mut self, writes: Vec<state::Write>) -> Result<(), state::Error> {
        let answer = self.state.write(writes);
        self.noted(answer)
    }

    /// Takes note of a refusal by a limit, to be told if the call fails.
    pub(super) fn noted<T>(&mut self, answer: Result<T, state::Error>) -> Result<T, state::Error> {
        let refused = match &answer {
            Err(state::Error::BatchFull(allowed)) => Some((Limit::BatchWrites, *allowed)),
            Err(state::Error::AnswerSize(allowed)) => Some((Limit::Answer, *allowed)),
            Err(state::Error::KeySize(_) | state::Error::ValueSize(_) | state::Error::Store(_)) | Ok(_) => None,
        };
        if let Some((limit, allowed)) = refused.filter(|_| !self.read_only) {
            self.growth.refused = Some(Refused { limit, allowed });
        }
        answer
    }

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
            bytes += output.len() + message.data.len() + message.partition_key.len() + OUTPUT_BYTES;
        }
        if self.read_only {
            return Err(output::Error::BatchFull(0));
        }
        let allowed = self.identity.limits.batch_output_bytes_max;
        if bytes > allowed {
            let allowed = allowed as u64;
            self.growth.refused = Some(Refused { limit: Limit::BatchOutputs, allowed });
            return Err(output::Error::BatchFull(allowed));
        }
        self.output_bytes = bytes;
        self.outputs.extend(messages.into_iter().map(|message| Output {
            output: output.clone(),
            partition_key: message.partition_key,
            data: Bytes::from(message.data),
            rewind: None,
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

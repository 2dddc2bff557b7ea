//! Runs as a flat batch: one copy of each record's bytes into an arena that is used again for the next call.

use std::sync::Arc;

use pelton_core::record::Run;

use super::bindings::flat::exports::pelton::task::batch_processor::Batch;
use super::bindings::list::exports::pelton::task::processor::Record;

/// Fills a batch from runs, keeping its buffers.
///
/// # Panics
/// When the records take more than 4 GiB, which the bounds of a batch rule out.
pub fn fill(batch: &mut Batch, runs: &[Run], streams: &Arc<[String]>) {
    batch.arena.clear();
    batch.spans.clear();
    batch.numbers.clear();
    batch.shards.clear();
    if batch.streams.len() != streams.len() {
        batch.streams = streams.to_vec();
    }
    for run in runs {
        let shard = &*run.shard.shard.0;
        let known = batch.shards.iter().position(|known| known == shard);
        let shard = known.unwrap_or_else(|| {
            batch.shards.push(shard.to_owned());
            batch.shards.len() - 1
        });
        for record in run.records() {
            batch.arena.extend_from_slice(record.partition_key.as_bytes());
            let key_end = batch.arena.len();
            batch.arena.extend_from_slice(&record.data);
            let end = |end: usize| u32::try_from(end).expect("a batch is bounded far below 4 GiB");
            batch.spans.extend_from_slice(&[
                run.shard.stream.0.into(),
                shard as u32,
                end(key_end),
                end(batch.arena.len()),
            ]);
            let [high, middle, low] = record.place.sequence.0;
            batch.numbers.extend_from_slice(&[record.arrived_ms, record.place.sub_sequence, high, middle, low]);
        }
    }
}

/// The same as a list, for components that take one.
pub fn list(runs: &[Run], streams: &[String]) -> Vec<Record> {
    let records = runs.iter().flat_map(|run| run.records().map(move |record| (run, record)));
    records
        .map(|(run, record)| Record {
            stream: streams[usize::from(run.shard.stream.0)].clone(),
            shard: run.shard.shard.0.to_string(),
            sequence_number: record.place.sequence.to_string(),
            sub_sequence_number: record.place.sub_sequence,
            arrived: record.arrived_ms,
            partition_key: record.partition_key.clone(),
            data: record.data.to_vec(),
        })
        .collect()
}

//! Output streams: each package put under its partition key, packed as one Kinesis record or plain as one for each output.
//! Of one package no record is sent before the one in front of it is acknowledged.

use std::collections::{BTreeMap, VecDeque};

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry};
use bytes::Bytes;
use futures::future::join_all;
use pelton_core::limits::PACKAGE_BYTES_MAX;
use pelton_core::output::{PARTITION_KEY_CHARS_MAX, Package};
use pelton_engine::ports::{PortError, Sink};

use crate::error::port_error;
use crate::mutant::{Mutant, wrong};
use pelton_core::aggregate::pack;

/// Records in one call; the limit of PutRecords.
const CALL_RECORDS_MAX: usize = 500;
/// Bytes in one call, well inside the limit of PutRecords and of servers that still have the older one of 5 MiB.
const CALL_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of one record, data and partition key, in a stream that was not told to take larger ones.
const RECORD_BYTES_MAX: usize = 1024 * 1024;
/// What the packing adds to the weight of a package: the magic, the digest, and the table of one key.
const PACKING_BYTES: usize = 64;
/// What naming a package's only output takes, which the bound on packages leaves out; see `Package::weight`.
const ENTRY_BYTES: usize = 128;
/// Bytes of a partition key, at most.
const PARTITION_KEY_BYTES_MAX: usize = 4 * PARTITION_KEY_CHARS_MAX;

// The heaviest package: its key stands inside and outside the packing.
const _: () =
    assert!(PACKAGE_BYTES_MAX + ENTRY_BYTES + PACKING_BYTES + 2 * PARTITION_KEY_BYTES_MAX <= RECORD_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MAX <= CALL_BYTES_MAX);

/// How outputs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// As KPL aggregates, with each output's id as a tag.
    Kpl,
    /// As plain records, without ids.
    Raw,
}

/// Where a named output goes.
#[derive(Clone, Debug)]
pub struct OutputStream {
    /// Name of the stream.
    pub stream: String,
    /// How outputs are written.
    pub format: OutputFormat,
}

/// A job's output streams.
#[derive(Debug)]
pub struct KinesisSink {
    client: Client,
    outputs: BTreeMap<String, OutputStream>,
}

/// The records of a package that are not yet acknowledged, in order: one where it is packed.
struct Lane<'a> {
    package: usize,
    partition_key: &'a str,
    records: VecDeque<Bytes>,
}

impl Lane<'_> {
    /// Bytes of the record that is next.
    fn next_bytes(&self) -> usize {
        self.partition_key.len() + self.records.front().map_or(0, Bytes::len)
    }
}

impl KinesisSink {
    /// The outputs of a job, by name.
    pub fn new(client: Client, outputs: BTreeMap<String, OutputStream>) -> Self {
        Self { client, outputs }
    }

    /// Puts the lanes of one stream: the first record of each, then the next of those that were acknowledged, so that no
    /// record overtakes one of its lane that failed. A lane that ends early will be sent again from its first record.
    async fn put_lanes(&self, stream: &str, mut lanes: Vec<Lane<'_>>) -> Vec<(usize, Result<(), PortError>)> {
        let mut results = Vec::with_capacity(lanes.len());
        while !lanes.is_empty() {
            let mut going_on = Vec::new();
            let mut rest = lanes.into_iter().peekable();
            while rest.peek().is_some() {
                let (mut call, mut bytes) = (Vec::new(), 0);
                while let Some(lane) = rest.next_if(|lane| {
                    call.is_empty() || (bytes + lane.next_bytes() <= CALL_BYTES_MAX && call.len() < CALL_RECORDS_MAX)
                }) {
                    bytes += lane.next_bytes();
                    call.push(lane);
                }
                let answers = self.put(stream, &mut call).await;
                for (lane, answer) in call.into_iter().zip(answers) {
                    let goes_on = answer.is_ok() || wrong(Mutant::LaneOvertakes);
                    if goes_on && !lane.records.is_empty() {
                        going_on.push(lane);
                    } else {
                        results.push((lane.package, answer));
                    }
                }
            }
            lanes = going_on;
        }
        results
    }

    /// Takes the first record of each lane and puts them in one call; answers for each.
    async fn put(&self, stream: &str, lanes: &mut [Lane<'_>]) -> Vec<Result<(), PortError>> {
        let what = format!("putting {} records into stream {stream}", lanes.len());
        let entries = lanes.iter_mut().map(|lane| {
            let data = Blob::new(lane.records.pop_front().expect("a lane under way has a record"));
            let entry = PutRecordsRequestEntry::builder().partition_key(lane.partition_key).data(data);
            entry.build().expect("an entry has a key and data")
        });
        let request = self.client.put_records().stream_name(stream).set_records(Some(entries.collect()));
        match request.send().await {
            Ok(reply) if reply.records.len() == lanes.len() => {
                reply.records.iter().map(|result| answer(&what, result)).collect()
            }
            Ok(_) if wrong(Mutant::UnfitReplyAsPut) => vec![Ok(()); lanes.len()],
            Err(_) if wrong(Mutant::UnansweredAsPut) => vec![Ok(()); lanes.len()],
            Ok(reply) => {
                let text = format!("{what}: the reply has {} answers", reply.records.len());
                vec![Err(PortError::Retry(text)); lanes.len()]
            }
            Err(error) => vec![Err(port_error(&what, &error)); lanes.len()],
        }
    }
}

fn answer(what: &str, result: &PutRecordsResultEntry) -> Result<(), PortError> {
    let refused = result.error_code.as_ref().filter(|_| !wrong(Mutant::RefusedAsPut));
    let Some(code) = refused else { return Ok(()) };
    let message = result.error_message.as_deref().unwrap_or_default();
    Err(PortError::Retry(format!("{what}: one was refused: {code}: {message}")))
}

/// The records of a package in a format, or why they cannot be sent.
fn records(package: &Package, format: OutputFormat) -> Result<VecDeque<Bytes>, PortError> {
    let records: VecDeque<Bytes> = match format {
        OutputFormat::Kpl => VecDeque::from([pack(package)]),
        OutputFormat::Raw => package.entries.iter().map(|(_, data)| data.clone()).collect(),
    };
    match records.iter().find(|data| package.partition_key.len() + data.len() > RECORD_BYTES_MAX) {
        None => Ok(records),
        Some(data) => Err(PortError::Stop(format!(
            "output {}, partition key {:?}: a record of {} bytes is over the {RECORD_BYTES_MAX} that Kinesis takes",
            package.output,
            package.partition_key,
            data.len()
        ))),
    }
}

#[async_trait]
impl Sink for KinesisSink {
    async fn publish(&self, packages: &[Package]) -> Vec<Result<(), PortError>> {
        // What has no records is sent already.
        let mut results: Vec<Result<(), PortError>> = vec![Ok(()); packages.len()];
        let mut streams: BTreeMap<&str, Vec<Lane<'_>>> = BTreeMap::new();
        for (index, package) in packages.iter().enumerate() {
            let Some(OutputStream { stream, format }) = self.outputs.get(&package.output) else {
                let text = format!("the configuration no longer has output {}; outputs for it wait", package.output);
                results[index] = Err(PortError::Stop(text));
                continue;
            };
            match records(package, *format) {
                Ok(records) if records.is_empty() => {}
                Ok(records) => {
                    let lane = Lane { package: index, partition_key: &package.partition_key, records };
                    streams.entry(stream).or_default().push(lane);
                }
                Err(error) => results[index] = Err(error),
            }
        }
        let sent = join_all(streams.into_iter().map(|(stream, lanes)| self.put_lanes(stream, lanes))).await;
        for (index, result) in sent.into_iter().flatten() {
            results[index] = result;
        }
        results
    }
}

//! Output streams: packages put, each as one Kinesis record under its partition key.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use bytes::Bytes;
use pelton_core::output::Package;
use pelton_engine::ports::{PortError, Sink};

use crate::aggregate::pack;
use crate::error::port_error;

/// Records in one call; the limit of PutRecords.
const CALL_RECORDS_MAX: usize = 500;
/// Bytes in one call, well inside the limit of PutRecords.
const CALL_BYTES_MAX: usize = 4 * 1024 * 1024;

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

/// A Kinesis record to put, and whose it is.
struct Pending {
    package: usize,
    partition_key: String,
    data: Bytes,
}

impl KinesisSink {
    /// The outputs of a job, by name.
    pub fn new(client: Client, outputs: BTreeMap<String, OutputStream>) -> Self {
        Self { client, outputs }
    }

    /// Puts records of one stream in one call; answers for each.
    async fn put(&self, stream: &str, records: &[Pending]) -> Vec<Result<(), PortError>> {
        let what = format!("putting {} outputs into stream {stream}", records.len());
        let entries = records.iter().map(|record| {
            let data = Blob::new(record.data.clone());
            let entry = PutRecordsRequestEntry::builder().partition_key(&record.partition_key).data(data);
            entry.build().expect("an entry has a key and data")
        });
        let request = self.client.put_records().stream_name(stream).set_records(Some(entries.collect()));
        match request.send().await {
            Ok(reply) if reply.records.len() == records.len() => {
                let answer = |result: &aws_sdk_kinesis::types::PutRecordsResultEntry| match &result.error_code {
                    None => Ok(()),
                    Some(code) => {
                        let message = result.error_message.as_deref().unwrap_or_default();
                        Err(PortError::Retry(format!("{what}: {code}: {message}")))
                    }
                };
                reply.records.iter().map(answer).collect()
            }
            Ok(reply) => {
                let text = format!("{what}: {} answers", reply.records.len());
                records.iter().map(|_| Err(PortError::Retry(text.clone()))).collect()
            }
            Err(error) => {
                let error = port_error(&what, &error);
                records.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    /// Puts aggregates of one stream, as many a call as fit.
    async fn put_packed(&self, stream: &str, records: Vec<Pending>, results: &mut [Result<(), PortError>]) {
        let mut records = records.into_iter().peekable();
        while records.peek().is_some() {
            let (mut call, mut bytes) = (Vec::new(), 0);
            while let Some(record) = records.next_if(|record| {
                let fits = bytes + record.data.len() <= CALL_BYTES_MAX && call.len() < CALL_RECORDS_MAX;
                fits || call.is_empty()
            }) {
                bytes += record.data.len();
                call.push(record);
            }
            let answers = self.put(stream, &call).await;
            call.iter().zip(answers).for_each(|(record, answer)| results[record.package] = answer);
        }
    }

    /// Puts a package's outputs as plain records one after another, so that none overtakes a failed one.
    async fn put_raw(&self, stream: &str, package: &Package) -> Result<(), PortError> {
        for (_, data) in &package.entries {
            let record = Pending { package: 0, partition_key: package.partition_key.clone(), data: data.clone() };
            self.put(stream, &[record]).await.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for KinesisSink {
    async fn publish(&self, packages: &[Package]) -> Vec<Result<(), PortError>> {
        let mut results: Vec<Result<(), PortError>> = packages.iter().map(|_| Ok(())).collect();
        let mut packed: BTreeMap<&str, Vec<Pending>> = BTreeMap::new();
        for (index, package) in packages.iter().enumerate() {
            match self.outputs.get(&package.output) {
                Some(OutputStream { stream, format: OutputFormat::Kpl }) => {
                    let (partition_key, data) = (package.partition_key.clone(), pack(package));
                    packed.entry(stream).or_default().push(Pending { package: index, partition_key, data });
                }
                Some(OutputStream { stream, format: OutputFormat::Raw }) => {
                    results[index] = self.put_raw(stream, package).await;
                }
                None => {
                    let text =
                        format!("the configuration no longer has output {}; outputs for it wait", package.output);
                    results[index] = Err(PortError::Stop(text));
                }
            }
        }
        for (stream, records) in packed {
            self.put_packed(stream, records, &mut results).await;
        }
        results
    }
}

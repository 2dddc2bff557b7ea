//! Manifests as bytes: format 1, then the protobuf message [`ManifestWire`].

use bytes::Bytes;
use pelton_core::id::{CommitId, CommitNumber, Epoch};
use pelton_core::snapshot::Manifest;
use pelton_engine::ports::PortError;
use prost::Message;

use crate::item::Item;
use crate::layout;

const FORMAT: u8 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct ManifestWire {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    at: u64,
    #[prost(bytes = "vec", tag = "3")]
    at_id: Vec<u8>,
    #[prost(uint64, tag = "4")]
    at_epoch: u64,
    #[prost(bytes = "vec", tag = "5")]
    last_step_id: Vec<u8>,
    #[prost(uint64, tag = "6")]
    floor: u64,
    #[prost(uint32, tag = "7")]
    parts: u32,
    #[prost(uint64, tag = "8")]
    entries: u64,
    #[prost(uint64, tag = "9")]
    state_bytes: u64,
    #[prost(uint64, tag = "10")]
    taken_ms: u64,
}

pub(crate) fn encode(manifest: &Manifest) -> Vec<u8> {
    let wire = ManifestWire {
        id: manifest.id.0.into(),
        at: manifest.at.0,
        at_id: manifest.at_id.0.into(),
        at_epoch: manifest.at_epoch.0,
        last_step_id: manifest.last_step_id.0.into(),
        floor: manifest.floor.0,
        parts: manifest.parts,
        entries: manifest.entries,
        state_bytes: manifest.state_bytes,
        taken_ms: manifest.taken_ms,
    };
    framed(FORMAT, &wire)
}

/// The manifest in an item, which stands where its content says.
pub(crate) fn of_item(mut item: Item) -> Result<Manifest, PortError> {
    let data = item.bytes("data")?;
    let manifest = decode(&data).map_err(|what| item.wrong(what))?;
    if item.sk != layout::snapshot(manifest.at, manifest.id) {
        return Err(item.wrong(format!("it holds the manifest {} of commit {}", manifest.id, manifest.at)));
    }
    item.end()?;
    Ok(manifest)
}

fn decode(bytes: &Bytes) -> Result<Manifest, String> {
    let wire: ManifestWire = unframed(FORMAT, bytes)?;
    let id = |bytes: Vec<u8>| bytes.try_into().map(CommitId).map_err(|_| "an id has not 16 bytes".to_owned());
    Ok(Manifest {
        id: id(wire.id)?,
        at: CommitNumber(wire.at),
        at_id: id(wire.at_id)?,
        at_epoch: Epoch(wire.at_epoch),
        last_step_id: id(wire.last_step_id)?,
        floor: CommitNumber(wire.floor),
        parts: wire.parts,
        entries: wire.entries,
        state_bytes: wire.state_bytes,
        taken_ms: wire.taken_ms,
    })
}

/// A message behind its format.
pub(crate) fn framed(format: u8, message: &impl Message) -> Vec<u8> {
    let mut bytes = vec![format];
    message.encode(&mut bytes).expect("a vector takes any message");
    bytes
}

/// A message of a format, with nothing in it that this version does not know.
pub(crate) fn unframed<M: Message + Default>(format: u8, bytes: &[u8]) -> Result<M, String> {
    let (found, body) = bytes.split_first().ok_or("it is empty")?;
    if *found != format {
        return Err(format!("format {found} is not this version's {format}"));
    }
    let message = M::decode(body).map_err(|error| error.to_string())?;
    if message.encode_to_vec() != body {
        return Err("it holds what this version does not know".into());
    }
    Ok(message)
}

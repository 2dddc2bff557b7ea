//! `wasi:keyvalue@0.2.0-draft` over the one bucket a task has.

use wasmtime::component::Resource;

use super::bindings::stores::wasi::keyvalue0_2_0_draft::{atomics, batch, store};
use super::bucket::{Bucket, Keys};
use super::instance::HostState;

const RANGE: [i128; 2] = [0, u64::MAX as i128];

impl store::Host for HostState {
    fn open(&mut self, identifier: String) -> Result<Resource<Bucket>, store::Error> {
        self.bucket_open(&identifier).ok_or(store::Error::NoSuchStore)
    }
}

impl store::HostBucket for HostState {
    fn get(&mut self, _: Resource<Bucket>, key: String) -> Result<Option<Vec<u8>>, store::Error> {
        self.bucket_get(&key).map_err(store::Error::Other)
    }

    fn set(&mut self, _: Resource<Bucket>, key: String, value: Vec<u8>) -> Result<(), store::Error> {
        self.bucket_write(vec![(key, Some(value))]).map_err(store::Error::Other)
    }

    fn delete(&mut self, _: Resource<Bucket>, key: String) -> Result<(), store::Error> {
        self.bucket_write(vec![(key, None)]).map_err(store::Error::Other)
    }

    fn exists(&mut self, _: Resource<Bucket>, key: String) -> Result<bool, store::Error> {
        self.bucket_get(&key).map(|value| value.is_some()).map_err(store::Error::Other)
    }

    fn list_keys(&mut self, _: Resource<Bucket>, cursor: Option<u64>) -> Result<store::KeyResponse, store::Error> {
        let after = cursor.map(|number| self.cursor_of(number)).transpose().map_err(store::Error::Other)?;
        let Keys { keys, cursor } = self.bucket_keys(after.as_deref()).map_err(store::Error::Other)?;
        let cursor = cursor.map(|cursor| self.cursor_number(cursor)).transpose().map_err(store::Error::Other)?;
        Ok(store::KeyResponse { keys, cursor })
    }

    fn drop(&mut self, _: Resource<Bucket>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl atomics::Host for HostState {
    fn increment(&mut self, _: Resource<Bucket>, key: String, delta: u64) -> Result<u64, store::Error> {
        let sum = self.bucket_add(key, delta.into(), RANGE).map_err(store::Error::Other)?;
        Ok(u64::try_from(sum).expect("the sum lies in the range it was given"))
    }
}

impl batch::Host for HostState {
    fn get_many(
        &mut self,
        _: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Vec<u8>)>>, store::Error> {
        let found = self.bucket_get_many(keys).map_err(store::Error::Other)?;
        Ok(found.into_iter().map(|(key, value)| value.map(|value| (key, value))).collect())
    }

    fn set_many(&mut self, _: Resource<Bucket>, pairs: Vec<(String, Vec<u8>)>) -> Result<(), store::Error> {
        let writes = pairs.into_iter().map(|(key, value)| (key, Some(value))).collect();
        self.bucket_write(writes).map_err(store::Error::Other)
    }

    fn delete_many(&mut self, _: Resource<Bucket>, keys: Vec<String>) -> Result<(), store::Error> {
        self.bucket_write(keys.into_iter().map(|key| (key, None)).collect()).map_err(store::Error::Other)
    }
}

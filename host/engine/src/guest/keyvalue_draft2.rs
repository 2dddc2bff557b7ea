//! `wasi:keyvalue@0.2.0-draft2` over the one bucket a task has.

use wasmtime::component::{Linker, Resource};

use super::bindings::stores::wasi::keyvalue0_2_0_draft2::{atomics, batch, store};
use super::bucket::{Bucket, Cas, Found, Keys, SwapError};
use super::instance::HostState;

const RANGE: [i128; 2] = [i64::MIN as i128, i64::MAX as i128];

type OlderPairs = Vec<Option<(String, Vec<u8>)>>;

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

    fn list_keys(&mut self, _: Resource<Bucket>, cursor: Option<String>) -> Result<store::KeyResponse, store::Error> {
        let after = match cursor.as_deref().map(from_hex) {
            Some(None) => return Err(store::Error::Other("the cursor is not one that was given by list-keys".into())),
            Some(Some(after)) => Some(after),
            None => None,
        };
        let Keys { keys, cursor } = self.bucket_keys(after.as_deref()).map_err(store::Error::Other)?;
        Ok(store::KeyResponse { keys, cursor: cursor.as_deref().map(to_hex) })
    }

    fn drop(&mut self, _: Resource<Bucket>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl atomics::Host for HostState {
    fn increment(&mut self, _: Resource<Bucket>, key: String, delta: i64) -> Result<i64, store::Error> {
        let sum = self.bucket_add(key, delta.into(), RANGE).map_err(store::Error::Other)?;
        Ok(i64::try_from(sum).expect("the sum lies in the range it was given"))
    }

    fn swap(&mut self, cas: Resource<Cas>, value: Vec<u8>) -> wasmtime::Result<Result<(), atomics::CasError>> {
        let swapped = self.cas_swap(cas, value)?;
        Ok(swapped.map_err(|error| match error {
            SwapError::Refused(words) => atomics::CasError::StoreError(store::Error::Other(words)),
            SwapError::Changed(fresh) => atomics::CasError::CasFailed(fresh),
        }))
    }
}

impl atomics::HostCas for HostState {
    fn new(&mut self, _: Resource<Bucket>, key: String) -> Result<Resource<Cas>, store::Error> {
        self.cas_new(key).map_err(store::Error::Other)
    }

    fn current(&mut self, cas: Resource<Cas>) -> wasmtime::Result<Result<Option<Vec<u8>>, store::Error>> {
        Ok(self.cas_current(&cas)?.map_err(store::Error::Other))
    }

    fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.resources.delete(cas)?;
        Ok(())
    }
}

impl batch::Host for HostState {
    fn get_many(&mut self, _: Resource<Bucket>, keys: Vec<String>) -> Result<Vec<Found>, store::Error> {
        self.bucket_get_many(keys).map_err(store::Error::Other)
    }

    fn set_many(&mut self, _: Resource<Bucket>, pairs: Vec<(String, Vec<u8>)>) -> Result<(), store::Error> {
        let writes = pairs.into_iter().map(|(key, value)| (key, Some(value))).collect();
        self.bucket_write(writes).map_err(store::Error::Other)
    }

    fn delete_many(&mut self, _: Resource<Bucket>, keys: Vec<String>) -> Result<(), store::Error> {
        self.bucket_write(keys.into_iter().map(|key| (key, None)).collect()).map_err(store::Error::Other)
    }
}

/// Gives `get-many` the type it had before August 2026, which is told apart by nothing but itself.
pub(super) fn link_older(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut batch = linker.instance("wasi:keyvalue/batch@0.2.0-draft2")?;
    batch.func_wrap("get-many", |mut store, (_, keys): (Resource<Bucket>, Vec<String>)| {
        let answer = store.data_mut().bucket_get_many(keys).map_err(store::Error::Other);
        let pairs = |(key, value): Found| value.map(|value| (key, value));
        let answer: Result<OlderPairs, store::Error> = answer.map(|found| found.into_iter().map(pairs).collect());
        Ok((answer,))
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// A cursor is any key, which need not be text.
fn to_hex(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use wasmtime::component::Component;

    use super::*;
    use crate::guest::{Compiler, GuestRuntime, Room};

    /// A component whose `get-many` answers with these, and nothing else.
    fn component(runtime: &GuestRuntime, pairs: &str) -> Component {
        let text = format!(
            r#"(component
                (import "wasi:keyvalue/store@0.2.0-draft2" (instance $store
                    (export "bucket" (type (sub resource)))
                    (type $e (variant (case "no-such-store") (case "access-denied") (case "other" string)))
                    (export "error" (type (eq $e)))))
                (alias export $store "bucket" (type $bucket))
                (alias export $store "error" (type $error))
                (import "wasi:keyvalue/batch@0.2.0-draft2" (instance
                    (alias outer 1 $bucket (type $outer-bucket))
                    (alias outer 1 $error (type $outer-error))
                    (export "bucket" (type $b (eq $outer-bucket)))
                    (export "error" (type $e (eq $outer-error)))
                    (type $pairs (list {pairs}))
                    (type $answer (result $pairs (error $e)))
                    (export "get-many" (func
                        (param "bucket" (borrow $b)) (param "keys" (list string)) (result $answer))))))"#
        );
        Component::from_binary(&runtime.engine, &wat::parse_str(text).unwrap()).unwrap()
    }

    #[test]
    fn each_of_the_two_types_of_get_many_is_given_to_those_who_import_it() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = GuestRuntime::new(folder.path(), Room::for_tasks(1), Compiler::Here).unwrap();
        let newer = component(&runtime, "(tuple string (option (list u8)))");
        let older = component(&runtime, "(option (tuple string (list u8)))");
        assert!(runtime.linker.instantiate_pre(&newer).is_ok());
        assert!(runtime.linker.instantiate_pre(&older).is_err());
        assert!(runtime.older_linker.instantiate_pre(&older).is_ok());
    }

    #[test]
    fn cursors_are_any_keys() {
        for key in [&b""[..], b"a", &[0, 255, 16]] {
            assert_eq!(from_hex(&to_hex(key)).as_deref(), Some(key));
        }
        assert_eq!((from_hex("a"), from_hex("0g"), from_hex("é")), (None, None, None));
    }
}

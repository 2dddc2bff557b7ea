//! Aggregates that another implementation made; `aggregates/make.py` says which, and how.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use pelton_core::aggregate::{has_magic, unpack};
use pelton_core::slice::HashKey;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/aggregates").join(name)
}

/// The lines of a set, as they are read out of its aggregate.
fn read_out(packed: &Bytes) -> String {
    let aggregate = unpack(packed).expect("it is whole");
    let line = |record: &pelton_core::aggregate::UserRecord| {
        let key = aggregate.partition_key(record).expect("each has a key");
        let chosen = aggregate.explicit_hash_key(record).map_or("-".into(), |HashKey(hash)| hash.to_string());
        let data: String = record.data.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{key}\t{chosen}\t{data}\n")
    };
    aggregate.records.iter().map(line).collect()
}

#[test]
fn what_another_implementation_packed_comes_out_whole() {
    for name in ["plain", "explicit", "odd", "many"] {
        let packed = Bytes::from(fs::read(file(&format!("{name}.bin"))).unwrap());
        assert_eq!(read_out(&packed), fs::read_to_string(file(&format!("{name}.txt"))).unwrap(), "{name}");
        // Any byte changed, and it is not one any more.
        for at in (0..packed.len()).step_by(packed.len() / 40 + 1) {
            let mut damaged = packed.to_vec();
            damaged[at] ^= 0x10;
            assert!(unpack(&damaged.into()).is_none(), "{name} with byte {at} changed");
        }
        assert!(has_magic(&packed) && unpack(&packed.slice(..packed.len() - 1)).is_none());
    }
}

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::guest::{ChildCompiler, CompileLimits, Compiler};

/// A component that exports an interface, with functions of no use in it.
fn component(interface: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (core module $logic (func (export "call")))
            (core instance $logic (instantiate $logic))
            (func $call (canon lift (core func $logic "call")))
            (instance $task (export "init" (func $call)) (export "process" (func $call)))
            (export "{interface}" (instance $task)))"#
    );
    wat::parse_str(text).unwrap()
}

fn runtime(folder: &Path, compiler: Compiler) -> Arc<GuestRuntime> {
    GuestRuntime::new(folder, 1, compiler).unwrap()
}

/// A compiler that compiles nothing.
fn none() -> Compiler {
    Compiler::Child(ChildCompiler::new("/none", Vec::new(), CompileLimits::default()))
}

#[test]
fn what_was_checked_needs_no_compiler_again() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), component(PROCESSOR));
    let refused = runtime(folder.path(), none()).check(&bytes).unwrap_err();
    assert!(matches!(refused, ComponentError::Uncompiled(CompileError::NoCompiler(_))), "{refused}");
    let report = runtime(folder.path(), Compiler::Here).check(&bytes).unwrap();
    let later = runtime(folder.path(), none());
    assert_eq!(later.check(&bytes).unwrap().digest, report.digest);
    assert_eq!(later.load(report.digest, &bytes).unwrap().digest(), report.digest);
}

#[test]
fn of_what_is_refused_nothing_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let refused = runtime(folder.path(), Compiler::Here).check(&component("pelton:task/none@0.1.0")).unwrap_err();
    assert!(
        matches!(&refused, ComponentError::Unfit(found) if matches!(found[..], [Misfit::NoProcessor(_)])),
        "{refused}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn code_of_a_compiler_of_its_own_fits() {
    let folder = tempfile::tempdir().unwrap();
    let hash = |engine: &wasmtime::Engine| {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    };
    let compiler = crate::guest::runtime::compiling_engine().unwrap();
    assert_eq!(hash(&compiler), hash(&runtime(folder.path(), Compiler::Here).engine));
}

#[test]
fn all_that_stands_against_a_component_is_told_at_once() {
    let instances = "(core instance (instantiate $parts))".repeat(9);
    let text = format!(
        r#"(component
            (import "wasi:sockets/raw@0.2.0" (instance))
            (import "a:b/c" (instance))
            (core module $parts (memory 1) (table 1 funcref))
            {instances})"#
    );
    let folder = tempfile::tempdir().unwrap();
    let refused = runtime(folder.path(), Compiler::Here).check(&wat::parse_str(&text).unwrap()).unwrap_err();
    let ComponentError::Unfit(found) = &refused else { panic!("{refused}") };
    let unknown = |name: &str| Misfit::UnknownImport(name.into());
    let parts = |what, found, most| Misfit::Parts { what, found, most };
    let expected = [
        Misfit::NoProcessor("nothing".into()),
        unknown("wasi:sockets/raw@0.2.0"),
        unknown("a:b/c"),
        parts("memories", 9, 4),
        parts("tables", 9, 8),
    ];
    assert_eq!(*found, expected);
    assert!(refused.to_string().contains("9 memories, and a task's may have 4; link"), "{refused}");
}

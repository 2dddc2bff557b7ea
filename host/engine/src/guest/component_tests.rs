use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::Arc;

use pelton_core::id::{DeploymentNumber, Incarnation, TaskId};
use pelton_core::slice::TaskCount;

use super::*;
use crate::guest::{
    ChildCompiler, CompileLimits, Compiler, Granted, GuestFault, GuestLimits, GuestLines, GuestLog, Identity,
    LogOrigin, Room,
};

/// The types of `pelton:task/types`, as a component spells them that defines them itself.
const TYPES: &str = r#"
    (type $record-type (record (field "stream" string) (field "shard" string) (field "sequence-number" string)
        (field "sub-sequence-number" u64) (field "arrived" u64) (field "partition-key" string) (field "data" (list u8))))
    (type $kind-type (enum "retry" "poison" "fatal"))
    (export $record "record" (type $record-type))
    (export $kind "failure-kind" (type $kind-type))
    (type $failure-type (record (field "kind" $kind) (field "index" (option u32)) (field "message" string)))
    (export $failure "failure" (type $failure-type))"#;

const INIT: (&str, &str, &str) = ("init", "", "(result (result (error string)))");
const PROCESS: (&str, &str, &str) =
    ("process", r#"(param "records" (list $record))"#, "(result (result (error $failure)))");

/// A component that exports functions of no use by the name of an interface: each has a name, what it takes and what it answers.
fn component(interface: &str, functions: &[(&str, &str, &str)]) -> Vec<u8> {
    component_that("", interface, functions)
}

/// And that imports something besides.
fn component_that(imports: &str, interface: &str, functions: &[(&str, &str, &str)]) -> Vec<u8> {
    let lifted = |(name, takes, answers): &(&str, &str, &str)| {
        format!(
            r#"(func ${name} {takes} {answers}
                (canon lift (core func $logic "{name}") (memory (core memory $logic "memory"))
                    (realloc (core func $logic "realloc"))))
            (export "{name}" (func ${name}))"#
        )
    };
    let core = |(name, takes, answers): &(&str, &str, &str)| {
        let answers = if answers.is_empty() { "" } else { "(result i32)" };
        let takes = if takes.is_empty() { "" } else { "(param i32 i32)" };
        format!(r#"(func (export "{name}") {takes} {answers} unreachable)"#)
    };
    let text = format!(
        r#"(component
            {imports}
            (core module $module
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                {})
            (core instance $logic (instantiate $module))
            {TYPES}
            {}
            (instance $task {})
            (export "{interface}" (instance $task)))"#,
        functions.iter().map(core).collect::<String>(),
        functions.iter().map(lifted).collect::<String>(),
        functions.iter().map(|(name, ..)| format!(r#"(export "{name}" (func ${name}))"#)).collect::<String>(),
    );
    wat::parse_str(text).unwrap()
}
/// For one task, and one instance beside its own.
const ROOM: Room = Room { tasks: 1, beside: 1, tried: 0 };

fn runtime(folder: &Path, compiler: Compiler) -> Arc<GuestRuntime> {
    GuestRuntime::new(folder, ROOM, compiler).unwrap()
}

/// A compiler that compiles nothing.
fn none() -> Compiler {
    Compiler::Child(ChildCompiler::new("/none", Vec::new(), CompileLimits::default()))
}

#[test]
fn what_was_checked_needs_no_compiler_again() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), component(PROCESSOR, &[INIT, PROCESS]));
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
    let refused = runtime(folder.path(), Compiler::Here)
        .check(&component("pelton:task/none@0.1.0", &[INIT, PROCESS]))
        .unwrap_err();
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

/// What stands against functions of an interface, in words.
fn against(interface: &str, functions: &[(&str, &str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let refused = runtime(folder.path(), Compiler::Here).check(&component(interface, functions)).unwrap_err();
    assert!(matches!(refused, ComponentError::Unfit(_)), "{refused}");
    refused.to_string()
}

#[test]
fn functions_of_other_types_are_named_with_what_they_are_to_be() {
    let text = ("init", "", "(result string)");
    let both = against(PROCESSOR, &[text]);
    for expected in [
        "the function init of the component's pelton:task/processor@0.1.0 is not `init: func() -> result<_, string>`: expected \
         `result` found `string`; build it against the wit/",
        "the component's pelton:task/processor@0.1.0 exports no function process, which is `process: func(records: \
         list<record>) -> result<_, failure>`; build",
    ] {
        assert!(both.contains(expected), "{both}");
    }
    let more = ("init", r#"(param "a" string)"#, INIT.2);
    let both = against(PROCESSOR, &[more, ("process", PROCESS.1, "")]);
    assert!(both.contains("string>`: it has 1 parameters, and not 0; build"), "{both}");
    assert!(both.contains("failure>`: it answers nothing; build"), "{both}");
    // A list of records is what another processor is called with.
    let batch = against(BATCH_PROCESSOR, &[INIT, PROCESS]);
    assert!(
        batch.contains("is not `process: func(batch: batch) -> result<_, failure>`: expected `record` found `list`"),
        "{batch}"
    );
    let field = ("process", r#"(param "records" (list (tuple string string)))"#, PROCESS.2);
    let field = against(PROCESSOR, &[INIT, field]);
    assert!(field.contains("expected `record` found `tuple`"), "{field}");
}

#[test]
fn an_import_of_another_type_is_named() {
    let import = r#"(import "pelton:task/state@0.1.0" (instance (export "get" (func (param "key" string)))))"#;
    let folder = tempfile::tempdir().unwrap();
    let component = component_that(import, PROCESSOR, &[INIT, PROCESS]);
    let refused = runtime(folder.path(), Compiler::Here).check(&component).unwrap_err();
    assert!(
        matches!(&refused, ComponentError::Unfit(found) if matches!(found[..], [Misfit::ImportTypes(_)])),
        "{refused}"
    );
    for expected in ["pelton:task/state@0.1.0", "`get`", "build it against the wit/"] {
        assert!(refused.to_string().contains(expected), "{refused}");
    }
}

#[test]
fn what_is_beside_the_tasks_own_instances_takes_no_room_of_theirs() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), component(PROCESSOR, &[INIT, PROCESS]));
    let program = runtime(folder.path(), Compiler::Here).load(digest_of(&bytes), &bytes).unwrap();
    let (job, tasks, limits): (Arc<str>, _, _) = ("orders".into(), TaskCount::new(1).unwrap(), GuestLimits::default());
    let origin = LogOrigin { job: job.clone(), task: TaskId(0), deployment: DeploymentNumber(1), shadow: false };
    let identity = Identity {
        job,
        task: TaskId(0),
        tasks,
        slice: tasks.slice(TaskId(0)),
        deployment: DeploymentNumber(1),
        config: Arc::default(),
        outputs: Arc::default(),
        incarnation: Incarnation::default(),
        limits,
        granted: Arc::new(Granted::new(Grants::default())),
        log: Arc::new(GuestLog::new(origin, limits.log_lines_max, GuestLines::new(|| 0))),
    };
    let beside = || program.prepare_beside(&identity, u64::MAX);
    let mut next = beside().map_err(|fault| fault.to_string()).unwrap();
    assert!(matches!(beside(), Err(GuestFault::NoRoom(_))), "what is beside takes no task's room");
    let own = program.prepare(&identity, u64::MAX).map_err(|fault| fault.to_string()).unwrap();
    assert!(matches!(program.prepare(&identity, u64::MAX), Err(GuestFault::NoRoom(_))));
    // It comes in the place of the task's own, and leaves its room to another.
    drop(own);
    next.take_place();
    assert!(beside().is_ok());
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

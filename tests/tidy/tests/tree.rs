//! The tree is tidy.

use pelton_tidy::{File, arrows, files, links, root, rust, words};

fn check(rule: impl Fn(&[File]) -> Vec<String>) {
    let files = files().expect("git lists the files of the tree");
    let breaches = rule(&files);
    assert!(breaches.is_empty(), "{} breaches:\n{}", breaches.len(), breaches.join("\n"));
}

#[test]
fn files_and_functions_are_short() {
    check(rust::lengths);
}

#[test]
fn modules_say_what_they_are() {
    check(rust::openings);
}

#[test]
fn nothing_is_left_undone() {
    check(words::undone);
}

#[test]
fn names_name_something() {
    check(words::empty_names);
}

#[test]
fn imports_point_one_way() {
    check(arrows::breaches);
}

#[test]
fn links_lead_somewhere() {
    check(|files| links::broken(files, &root()));
}

//! What wit-bindgen makes of `wit/task.wit`. Nothing outside [`crate::host`] and [`crate::component`] names it.

#![allow(
    unsafe_code,
    missing_docs,
    unused_qualifications,
    clippy::all,
    reason = "generated: lifts and lowers values across the component boundary, which takes raw pointers"
)]

wit_bindgen::generate!({
    path: "../../wit",
    world: "sdk-task",
    ownership: Borrowing { duplicate_if_necessary: false },
    export_macro_name: "export_component",
    pub_export_macro: true,
    default_bindings_module: "pelton_task::bindings",
});

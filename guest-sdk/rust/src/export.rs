//! The macro that makes a crate a component.

/// Exports a [`Task`](crate::Task) as the component's `pelton:task/batch-processor` and `timer-handler`. Once a crate; does nothing but
/// check the type when the crate is not built for WebAssembly.
#[macro_export]
macro_rules! export {
    ($task:ty) => {
        const _: fn() = || {
            fn is_task<T: $crate::Task>() {}
            is_task::<$task>();
        };

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::exports::pelton::task::batch_processor as wire;
            use $crate::bindings::exports::pelton::task::timer_handler as timed;

            ::std::thread_local! {
                static TASK: ::std::cell::RefCell<::std::option::Option<$crate::component::Instance<$task>>> =
                    const { ::std::cell::RefCell::new(::std::option::Option::None) };
            }

            struct Component;

            impl wire::Guest for Component {
                fn init() -> ::std::result::Result<(), ::std::string::String> {
                    $crate::component::init(&TASK)
                }

                fn process(batch: wire::Batch) -> ::std::result::Result<(), wire::Failure> {
                    $crate::component::process(&TASK, batch)
                }
            }

            impl timed::Guest for Component {
                fn fire(timers: ::std::vec::Vec<timed::DueTimer>) -> ::std::result::Result<(), wire::Failure> {
                    $crate::component::fire(&TASK, timers)
                }
            }

    $crate::bindings::export_component!(Component with_types_in $crate::bindings);
        };
    };
}

//! Pages: how many items one holds, and where the next one begins. Every list that can grow is told in pages; the `start` of a
//! page is the first item it may hold, so that a page is the same whatever came before it.

use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};

use crate::parameters::Parameters;
use crate::problem::Refusal;

/// Most items of a page.
pub const ITEMS_MAX: usize = 1_000;
const LIMIT: &str = "limit";

/// The parameter `limit`, and its default.
pub struct Limit<const DEFAULT: usize>;

/// For lists of small items.
pub type ListLimit = Limit<ITEMS_MAX>;
/// For lists of what users wrote.
pub type DataLimit = Limit<100>;

impl<const DEFAULT: usize> Limit<DEFAULT> {
    /// The limit that was given.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(parameters: &Parameters) -> Result<usize, Refusal> {
        parameters.count(LIMIT, DEFAULT, ITEMS_MAX)
    }
}

impl<const DEFAULT: usize> IntoParams for Limit<DEFAULT> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let count = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer));
        let count = count.minimum(Some(1)).maximum(Some(ITEMS_MAX)).default(Some(DEFAULT.into()));
        let limit = ParameterBuilder::new().name(LIMIT).parameter_in(ParameterIn::Query).schema(Some(count));
        vec![limit.description(Some("Most items of the page. Where they are large, it has fewer.")).build()]
    }
}

/// Up to `limit` items, and the first that was left out.
pub fn cut<T>(mut items: impl Iterator<Item = T>, limit: usize) -> (Vec<T>, Option<T>) {
    let page = items.by_ref().take(limit).collect();
    (page, items.next())
}

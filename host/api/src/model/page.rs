//! Pages: a list that can grow is told one page at a time, and each page says where the next one starts.

/// A page of a list.
pub trait Page {
    /// What is listed.
    type Item;

    /// The items of the page, and the `start` of the next one; none after the last.
    fn parts(self) -> (Vec<Self::Item>, Option<String>);
}

//! What clouds would launch, with its layout.

use crate::CloudOffer;
use crate::layout::{Layout, Level};

/// An offer as it was given, and what an empty instance of it has.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) view: CloudOffer,
    pub(crate) layout: Layout,
    pub(crate) all: Level,
}

impl Offer {
    pub(crate) fn of(view: CloudOffer) -> Self {
        let layout = Layout::of(&view.capacity);
        let all = layout.all(&view.capacity);
        Self { view, layout, all }
    }
}

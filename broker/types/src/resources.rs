//! What jobs ask for and what nodes have: accelerators, CPUs, memory.
//!
//! One accelerator is 100 blocks, or its MIG slices. `request` parses what a job asks, `inventory` is what a
//! node reports, `free` is the arithmetic of giving and taking back; it alone decides whether something fits.

mod free;
mod inventory;
mod request;

pub use free::{FreeResources, OverCommit, Shortfall};
pub use inventory::{
    Accelerator, AcceleratorShare, Allocation, BLOCKS_PER_GPU, Capabilities, Inventory, InventorySource,
    MigSlice, NodeCapacity,
};
pub use request::{
    GpuQuantity, GpuRequest, GpuRequestError, GpuSelector, MAX_GPUS_PER_NODE, MemoryError, Resources,
    parse_memory_mib,
};

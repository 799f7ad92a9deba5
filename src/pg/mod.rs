//! The boundary to Postgres. All `unsafe` of the extension is here; nothing here knows the product.

pub mod aggregate;
pub mod bulk;
pub mod claim;
pub mod composite;
pub mod datum;
pub mod error;
pub mod guard;
pub mod interrupt;
pub mod jsonb;
pub mod lookup;
pub mod memory;
mod numeric;
pub mod query;
mod receiver;
pub mod relation;
pub mod scan;
pub mod settings;
pub mod snapshot;
pub mod table;
pub mod threads;
pub mod transaction;

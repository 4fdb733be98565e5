//! The schema that every policy is held against.

use std::sync::LazyLock;

use cedar_policy::Schema;

/// The schema, as a person reads it: what a policy can speak about.
pub const SCHEMA: &str = include_str!("../schema.cedarschema");

/// The same, parsed once in the life of the process.
pub(crate) static PARSED: LazyLock<Schema> = LazyLock::new(|| {
    Schema::from_cedarschema_str(SCHEMA).map(|(schema, _)| schema).expect("the schema is part of the program")
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_parses_without_warnings() {
        let (schema, warnings) = Schema::from_cedarschema_str(SCHEMA).unwrap();
        assert_eq!(warnings.map(|warning| warning.to_string()).collect::<Vec<_>>(), [] as [String; 0]);
        assert_eq!(schema.actions().count(), 1);
    }
}

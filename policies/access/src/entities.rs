//! A request in the terms of the schema.
//!
//! What is built here conforms to the schema by construction, so nothing is checked against it for each request; a
//! test does that for requests of every shape.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

use cedar_policy::{Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};
use spillway_types::{GroupName, Market};

use crate::request::{Input, JobFacts, NO_JURISDICTION, PlaceFacts, Request};

/// Names of types, parsed once.
#[derive(Debug)]
struct Types {
    action: EntityTypeName,
    group: EntityTypeName,
    inputs: EntityTypeName,
    kind: EntityTypeName,
    pool: EntityTypeName,
    site: EntityTypeName,
    user: EntityTypeName,
}

static TYPES: LazyLock<Types> = LazyLock::new(|| {
    let name = |text: &str| text.parse().expect("these are names of types");
    Types {
        action: name("Action"),
        group: name("Group"),
        inputs: name("Inputs"),
        kind: name("Kind"),
        pool: name("Pool"),
        site: name("Site"),
        user: name("User"),
    }
});

/// A request as Cedar takes it.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) principal: EntityUid,
    pub(crate) action: EntityUid,
    pub(crate) resource: EntityUid,
    pub(crate) context: Context,
    pub(crate) entities: Vec<Entity>,
}

impl Built {
    /// # Errors
    /// What Cedar says of a value that it does not take; the schema's types are all taken.
    pub(crate) fn of(request: &Request<'_>) -> Result<Self, String> {
        let types = &*TYPES;
        let principal = uid(&types.user, request.asker.user.as_str());
        let resource = uid(&types.pool, request.place.pool.as_str());
        let inputs = uid(&types.inputs, "inputs");
        let mut entities = groups(request.asker.groups);
        let own = request.asker.groups.first().map(|group| uid(&types.group, group.as_str()));
        entities.push(Entity::new_no_attrs(principal.clone(), own.into_iter().collect()));
        let site = uid(&types.site, request.place.site.as_str());
        entities.push(Entity::new_no_attrs(site.clone(), HashSet::new()));
        let pool = Entity::new(resource.clone(), pool(&request.place), HashSet::from([site]));
        entities.push(pool.map_err(|error| error.to_string())?);
        let tags = tags(request.job.inputs);
        let read = Entity::new_with_tags(inputs.clone(), [], [], tags).map_err(|error| error.to_string())?;
        entities.push(read);
        let context = Context::from_pairs(context(&request.job, &request.place, inputs));
        Ok(Self {
            principal,
            action: uid(&types.action, "place"),
            resource,
            context: context.map_err(|error| error.to_string())?,
            entities,
        })
    }

    pub(crate) fn store(entities: Vec<Entity>) -> Result<Entities, String> {
        Entities::from_entities(entities, None).map_err(|error| error.to_string())
    }
}

/// Whether an entity is a user: an answer may then differ between two users of one group.
pub(crate) fn is_user(entity: &EntityUid) -> bool {
    *entity.type_name() == TYPES.user
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn groups(chain: &[GroupName]) -> Vec<Entity> {
    let of = |group: &GroupName| uid(&TYPES.group, group.as_str());
    let above = chain.iter().skip(1).map(Some).chain([None]);
    chain
        .iter()
        .zip(above)
        .map(|(group, above)| Entity::new_no_attrs(of(group), above.map(of).into_iter().collect()))
        .collect()
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.into_iter().map(text))
}

fn pool(place: &PlaceFacts<'_>) -> HashMap<String, RestrictedExpression> {
    let entity = |kind, id: &str| RestrictedExpression::new_entity_uid(uid(kind, id));
    let mut attributes = HashMap::from([
        ("kind".to_owned(), entity(&TYPES.kind, place.kind.as_str())),
        ("labels".to_owned(), texts(place.labels.iter().map(String::as_str))),
        ("spot".to_owned(), RestrictedExpression::new_bool(place.capacity == Market::Spot)),
    ]);
    let mut add = |name: &str, value: Option<RestrictedExpression>| {
        attributes.extend(value.map(|value| (name.to_owned(), value)));
    };
    add("jurisdiction", place.jurisdiction.filter(|known| *known != NO_JURISDICTION).map(text));
    add("provider", place.provider.map(|cloud| text(cloud.as_str())));
    let of_group = |group: &GroupName| entity(&TYPES.group, group.as_str());
    add("groups", place.groups.map(|groups| RestrictedExpression::new_set(groups.iter().map(of_group))));
    attributes
}

/// For each label the jurisdictions of the inputs that bear it.
fn tags(inputs: &[Input]) -> Vec<(String, RestrictedExpression)> {
    let mut homes: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for input in inputs {
        let home = input.jurisdiction.as_deref().unwrap_or(NO_JURISDICTION);
        for label in &input.labels {
            homes.entry(label).or_default().insert(home);
        }
    }
    homes.into_iter().map(|(label, homes)| (label.to_owned(), texts(homes))).collect()
}

fn context(
    job: &JobFacts<'_>,
    place: &PlaceFacts<'_>,
    inputs: EntityUid,
) -> Vec<(String, RestrictedExpression)> {
    let long = RestrictedExpression::new_long;
    let always = [
        ("gpus", long(i64::from(job.gpus))),
        ("nodes", long(i64::from(job.nodes))),
        ("residency", texts(job.residency.iter().map(String::as_str))),
        ("inputs", RestrictedExpression::new_entity_uid(inputs)),
        ("rate_micros_per_hour", long(place.rate.0)),
    ];
    let sometimes = [("class", job.class), ("image", job.image)];
    let sometimes = sometimes.into_iter().filter_map(|(name, value)| Some((name, text(value?))));
    always.into_iter().chain(sometimes).map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;
    use crate::testing::World;

    #[test]
    fn what_is_built_conforms_to_the_schema() {
        for world in World::every() {
            let built = Built::of(&world.request()).unwrap();
            let schema = &*schema::PARSED;
            Entities::from_entities(built.entities.clone(), Some(schema)).unwrap();
            let request = cedar_policy::Request::new(
                built.principal,
                built.action,
                built.resource,
                built.context,
                Some(schema),
            );
            request.unwrap();
        }
    }
}

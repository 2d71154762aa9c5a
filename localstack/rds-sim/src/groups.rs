//! Parameter groups, of instances and of clusters.

use std::{sync::Arc, time::Instant};

use crate::{
    catalog::Definition,
    error::Refusal,
    request::Call,
    server::Values,
    world::{Apply, State, World, arn},
    xml::Xml,
};

/// Whose group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Instance,
    Cluster,
}

/// A group.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) family: String,
    pub(crate) description: String,
    /// What somebody set.
    pub(crate) values: Values,
    pub(crate) tags: Vec<(String, String)>,
}

/// Most parameters in one call.
const MOST: usize = 20;

/// `postgres16`, `aurora-postgresql16`.
pub(crate) fn family(engine: &str, major: u32) -> String {
    format!("{engine}{major}")
}

impl Group {
    pub(crate) fn new(family: &str, description: &str) -> Self {
        let (values, tags) = (Values::new(), Vec::new());
        Self { family: family.to_owned(), description: description.to_owned(), values, tags }
    }
}

impl Kind {
    fn name_parameter(self) -> &'static str {
        match self {
            Self::Instance => "DBParameterGroupName",
            Self::Cluster => "DBClusterParameterGroupName",
        }
    }

    fn element(self) -> &'static str {
        match self {
            Self::Instance => "DBParameterGroup",
            Self::Cluster => "DBClusterParameterGroup",
        }
    }

    fn arn(self, name: &str) -> String {
        arn(if self == Self::Instance { "pg" } else { "cluster-pg" }, name)
    }
}

impl World {
    /// A call about groups; `None` when it is about something else.
    pub(crate) fn group_call(self: &Arc<Self>, call: &Call) -> Option<Result<Xml, Refusal>> {
        let kind = if call.action.contains("Cluster") { Kind::Cluster } else { Kind::Instance };
        let mut state = self.state();
        Some(match call.action.replace("Cluster", "").as_str() {
            "CreateDBParameterGroup" => state.create_group(kind, call),
            "CopyDBParameterGroup" => state.copy_group(kind, call),
            "DescribeDBParameterGroups" => state.describe_groups(kind, call),
            "DescribeDBParameters" => state.describe_parameters(kind, call),
            "DeleteDBParameterGroup" => state.delete_group(kind, call),
            "ModifyDBParameterGroup" => {
                let modified = state.modify_group(kind, call);
                drop(state);
                if modified.is_ok() {
                    self.apply_dynamic(kind, call.get(kind.name_parameter()).unwrap_or_default());
                }
                modified
            }
            "ResetDBParameterGroup" => state.reset_group(kind, call),
            "ListTagsForResource" => state.list_tags(call),
            "AddTagsToResource" => state.add_tags(call),
            "RemoveTagsFromResource" => state.remove_tags(call),
            _ => return None,
        })
    }

    /// Servers that run with the group take its dynamic values at once.
    fn apply_dynamic(self: &Arc<Self>, kind: Kind, name: &str) {
        let mut state = self.state();
        let Some(group) = state.groups.get(&(kind, name.to_owned())).cloned() else { return };
        let definitions = state.families.get(&group.family).cloned().unwrap_or_default();
        let is_dynamic = |name: &String| definitions.iter().any(|d| d.name == *name && !d.is_static);
        for own in state.attachments().filter(|own| own.kind == kind && own.group == name) {
            if own.apply == Apply::InSync || own.apply == Apply::PendingReboot {
                let mut values = own.in_force.clone();
                values.extend(group.values.clone().into_iter().filter(|(name, _)| is_dynamic(name)));
                let server = Arc::clone(&own.server);
                own.apply = Apply::Applying(Instant::now());
                tokio::spawn(async move {
                    server.write(&values);
                    server.reload().await;
                });
            }
        }
    }
}

impl State {
    fn group(&self, kind: Kind, name: &str) -> Result<&Group, Refusal> {
        self.groups.get(&(kind, name.to_lowercase())).ok_or_else(|| Refusal::group_missing(name))
    }

    /// One that may be changed.
    fn own_group(&mut self, kind: Kind, name: &str) -> Result<&mut Group, Refusal> {
        if name.starts_with("default.") {
            return Err(Refusal::invalid("Modifying a default parameter group is not allowed."));
        }
        self.groups.get_mut(&(kind, name.to_lowercase())).ok_or_else(|| Refusal::group_missing(name))
    }

    fn new_name(&self, kind: Kind, name: &str) -> Result<String, Refusal> {
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
        let fits = name.len() <= 255 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !starts || !fits || name.ends_with('-') || name.contains("--") {
            return Err(Refusal::invalid(format!(
                "The parameter DBParameterGroupName is not a valid identifier: {name}. Identifiers must begin with a letter; must contain only ASCII letters, digits, and hyphens; and must not end with a hyphen or contain two consecutive hyphens."
            )));
        }
        match self.groups.contains_key(&(kind, name.to_lowercase())) {
            true => Err(Refusal::new(
                400,
                "DBParameterGroupAlreadyExists",
                format!("Parameter group {name} already exists"),
            )),
            false => Ok(name.to_lowercase()),
        }
    }

    fn create_group(&mut self, kind: Kind, call: &Call) -> Result<Xml, Refusal> {
        let name = self.new_name(kind, call.need(kind.name_parameter())?)?;
        let family = call.need("DBParameterGroupFamily")?;
        if !self.families.contains_key(family) {
            return Err(Refusal::invalid(format!(
                "ParameterGroupFamily {family} is not a valid parameter group family"
            )));
        }
        let mut group = Group::new(family, call.need("Description")?);
        group.tags = tags(call);
        self.add_group(kind, name, group)
    }

    fn copy_group(&mut self, kind: Kind, call: &Call) -> Result<Xml, Refusal> {
        let side = |side: &str| format!("{side}{}Identifier", kind.element());
        let source = call.need(&side("Source"))?;
        let source = source.rsplit(':').next().unwrap_or(source);
        if source.starts_with("default.") {
            return Err(Refusal::invalid("Copying a default parameter group is not allowed."));
        }
        let mut group = self.group(kind, source)?.clone();
        let name = self.new_name(kind, call.need(&side("Target"))?)?;
        group.description = call.need(&format!("Target{}Description", kind.element()))?.to_owned();
        group.tags = tags(call);
        self.add_group(kind, name, group)
    }

    fn add_group(&mut self, kind: Kind, name: String, group: Group) -> Result<Xml, Refusal> {
        let own = self.groups.keys().filter(|(of, name)| *of == kind && !name.starts_with("default.")).count();
        if self.group_quota.is_some_and(|most| own >= most) {
            let message = "The request would result in the user exceeding the allowed number of DB parameter groups.";
            return Err(Refusal::new(400, "DBParameterGroupQuotaExceeded", message));
        }
        let mut xml = Xml::default();
        xml.within(kind.element(), |xml| write(xml, kind, &name, &group));
        self.groups.insert((kind, name), group);
        Ok(xml)
    }

    fn describe_groups(&self, kind: Kind, call: &Call) -> Result<Xml, Refusal> {
        let found: Vec<(String, Group)> = match call.get(kind.name_parameter()) {
            Some(name) => vec![(name.to_lowercase(), self.group(kind, name)?.clone())],
            None => {
                let all = self.groups.iter().filter(|((of, _), _)| *of == kind);
                all.map(|((_, name), group)| (name.clone(), group.clone())).collect()
            }
        };
        let (page, marker) = call.page(found)?;
        let mut xml = Xml::default();
        xml.list(&format!("{}s", kind.element()), kind.element(), &page, |xml, (name, group)| {
            write(xml, kind, name, group)
        });
        marker.iter().for_each(|marker| xml.text("Marker", marker));
        Ok(xml)
    }

    fn describe_parameters(&self, kind: Kind, call: &Call) -> Result<Xml, Refusal> {
        let group = self.group(kind, call.need(kind.name_parameter())?)?;
        let definitions = self.families.get(&group.family).cloned().unwrap_or_default();
        let source = |definition: &Definition| match (group.values.get(&definition.name), &definition.system_value) {
            (Some(value), _) => ("user", Some(value.clone())),
            (None, Some(value)) => ("system", Some(value.clone())),
            (None, None) => ("engine-default", None),
        };
        let wanted = |definition: &&Definition| call.get("Source").is_none_or(|wanted| wanted == source(definition).0);
        let (page, marker) = call.page(definitions.iter().filter(wanted).collect())?;
        let mut xml = Xml::default();
        xml.list("Parameters", "Parameter", page, |xml, definition: &Definition| {
            let (source, value) = source(definition);
            xml.text("ParameterName", &definition.name);
            value.iter().for_each(|value| xml.text("ParameterValue", value));
            xml.text("Description", &definition.description);
            xml.text("Source", source);
            xml.text("ApplyType", if definition.is_static { "static" } else { "dynamic" });
            xml.text("DataType", definition.data_type);
            definition.allowed.iter().for_each(|allowed| xml.text("AllowedValues", allowed));
            xml.value("IsModifiable", definition.modifiable);
            xml.text("ApplyMethod", "pending-reboot");
        });
        marker.iter().for_each(|marker| xml.text("Marker", marker));
        Ok(xml)
    }

    fn delete_group(&mut self, kind: Kind, call: &Call) -> Result<Xml, Refusal> {
        let name = call.need(kind.name_parameter())?.to_lowercase();
        self.own_group(kind, &name)?;
        if self.attachments().any(|own| own.kind == kind && own.group == name) {
            let message = "One or more database instances are still members of this parameter group, so the group cannot be deleted";
            return Err(Refusal::new(400, "InvalidDBParameterGroupState", message));
        }
        self.groups.remove(&(kind, name));
        Ok(Xml::default())
    }

    fn modify_group(&mut self, kind: Kind, call: &Call) -> Result<Xml, Refusal> {
        let name = call.need(kind.name_parameter())?.to_lowercase();
        let family = self.own_group(kind, &name)?.family.clone();
        let definitions = self.families.get(&family).cloned().unwrap_or_default();
        let fields = ["ParameterName", "ParameterValue", "ApplyMethod"];
        let changes = call.members("Parameters", "Parameter", fields);
        if changes.is_empty() || changes.len() > MOST {
            return Err(Refusal::invalid(format!("The number of parameters must be between 1 and {MOST}.")));
        }
        let mut values = Values::new();
        let mut restarts = false;
        for [name, value, method] in changes {
            let (name, value) = (name.unwrap_or_default(), value.unwrap_or_default());
            let definition = definitions.iter().find(|definition| definition.name == name);
            let definition =
                definition.ok_or_else(|| Refusal::invalid(format!("Could not find parameter with name: {name}")))?;
            if !definition.modifiable {
                return Err(Refusal::invalid(format!("The parameter {name} cannot be modified.")));
            }
            if definition.is_static && method == Some("immediate") {
                return Err(Refusal::combination("cannot use immediate apply method for static parameter"));
            }
            if !definition.accepts(value) {
                let allowed = definition.allowed.as_deref().unwrap_or("any text");
                return Err(Refusal::invalid(format!(
                    "Invalid parameter value: {value} for: {name} allowed values are: {allowed}"
                )));
            }
            restarts |= definition.is_static;
            values.insert(name.to_owned(), value.to_owned());
        }
        self.own_group(kind, &name)?.values.extend(values);
        if restarts {
            for own in self.attachments().filter(|own| own.kind == kind && own.group == name) {
                own.apply = Apply::Applying(Instant::now());
            }
        }
        Ok(group_name(kind, &name))
    }

    fn reset_group(&mut self, kind: Kind, call: &Call) -> Result<Xml, Refusal> {
        let name = call.need(kind.name_parameter())?.to_lowercase();
        let named = call.members("Parameters", "Parameter", ["ParameterName"]);
        let group = self.own_group(kind, &name)?;
        match call.flag("ResetAllParameters") {
            true => group.values.clear(),
            false => named.iter().flatten().flatten().for_each(|name| drop(group.values.remove(*name))),
        }
        for own in self.attachments().filter(|own| own.kind == kind && own.group == name) {
            own.apply = Apply::Applying(Instant::now());
        }
        Ok(group_name(kind, &name))
    }

    fn tagged(&mut self, call: &Call) -> Result<&mut Vec<(String, String)>, Refusal> {
        let wanted = call.need("ResourceName")?.to_owned();
        let found = self.groups.iter_mut().find(|((kind, name), _)| kind.arn(name) == wanted);
        found.map(|(_, group)| &mut group.tags).ok_or_else(|| Refusal::group_missing(&wanted))
    }

    fn list_tags(&mut self, call: &Call) -> Result<Xml, Refusal> {
        let mut xml = Xml::default();
        xml.list("TagList", "Tag", &*self.tagged(call)?, |xml, (key, value)| {
            xml.text("Key", key);
            xml.text("Value", value);
        });
        Ok(xml)
    }

    fn add_tags(&mut self, call: &Call) -> Result<Xml, Refusal> {
        let (added, tags) = (tags(call), self.tagged(call)?);
        tags.retain(|(key, _)| added.iter().all(|(new, _)| new != key));
        tags.extend(added);
        Ok(Xml::default())
    }

    fn remove_tags(&mut self, call: &Call) -> Result<Xml, Refusal> {
        let keys: Vec<String> =
            (1..).map_while(|n| call.get(&format!("TagKeys.member.{n}")).map(str::to_owned)).collect();
        self.tagged(call)?.retain(|(key, _)| !keys.contains(key));
        Ok(Xml::default())
    }
}

fn group_name(kind: Kind, name: &str) -> Xml {
    let mut xml = Xml::default();
    xml.text(kind.name_parameter(), name);
    xml
}

fn tags(call: &Call) -> Vec<(String, String)> {
    let tags = call.members("Tags", "Tag", ["Key", "Value"]);
    tags.into_iter()
        .map(|[key, value]| (key.unwrap_or_default().to_owned(), value.unwrap_or_default().to_owned()))
        .collect()
}

fn write(xml: &mut Xml, kind: Kind, name: &str, group: &Group) {
    xml.text(kind.name_parameter(), name);
    xml.text("DBParameterGroupFamily", &group.family);
    xml.text("Description", &group.description);
    xml.text(&format!("{}Arn", kind.element()), &kind.arn(name));
}

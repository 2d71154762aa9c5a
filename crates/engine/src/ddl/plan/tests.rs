//! What a difference comes to. That servers agree is proven between servers, in `tests/stream/ddl`.

use serde_json::{Value, json};

use super::{Plan, Rights, Uncovered};
use crate::ddl::Record;

const ALL: Rights = Rights { owner: true, privileges: true };

fn column(num: i16, name: &str) -> Value {
    json!({
        "num": num, "name": name, "type": "integer", "type_id": 23, "typmod": -1, "not_null": false, "identity": "",
        "generated": "", "collation_id": 0, "storage": "p", "storage_is_default": true, "local": true,
        "inherited": false, "grants": [],
    })
}

fn index(id: u32, name: &str) -> Value {
    json!({
        "id": id, "name": name, "definition": format!("CREATE INDEX {name} ON public.t USING btree (a)"),
        "constraint": false, "partitioned": false, "valid": true, "clustered": false,
    })
}

fn key(id: u32, name: &str, to: &str) -> Value {
    json!({
        "id": id, "name": name, "type": "f", "definition": format!("FOREIGN KEY (a) REFERENCES {to}(a)"),
        "validated": true, "enforced": true, "deferrable": false, "deferred": false, "local": true, "inherited": false,
    })
}

/// Table public.t with column `a`, changed as told.
fn table(change: impl FnOnce(&mut Value)) -> Value {
    let mut table = json!({
        "schema": "public", "name": "t", "owner": "me", "kind": "r", "persistence": "p", "columns": [column(1, "a")],
        "grants": [],
    });
    change(&mut table);
    table
}

fn changed(class: &str, was: Value, is: Value) -> Value {
    json!({ "class": class, "id": 1, "was": was, "is": is })
}

fn plan(changes: &[Value], rights: Rights) -> Result<Vec<String>, Uncovered> {
    let record = Record::parse(1, "ALTER TABLE", &Value::from(changes).to_string(), None).unwrap();
    Ok(Plan::new(&record.changes, rights)?.statements().map(ToOwned::to_owned).collect())
}

fn statements(change: Value) -> Vec<String> {
    plan(&[change], ALL).unwrap()
}

#[test]
fn a_column_that_kept_its_number_is_renamed() {
    let is = table(|t| t["columns"] = json!([column(1, "b")]));
    assert_eq!(
        statements(changed("table", table(|_| {}), is)),
        [r#"ALTER TABLE "public"."t" RENAME COLUMN "a" TO "b""#]
    );
}

#[test]
fn a_column_of_another_number_is_another_column() {
    let is = table(|t| t["columns"] = json!([column(2, "a")]));
    assert_eq!(
        statements(changed("table", table(|_| {}), is)),
        [r#"ALTER TABLE "public"."t" DROP COLUMN IF EXISTS "a""#, r#"ALTER TABLE "public"."t" ADD COLUMN "a" integer"#]
    );
}

#[test]
fn old_rows_show_what_the_source_computed_once() {
    let mut stamped = column(2, "at");
    (stamped["missing"], stamped["default"]) = ("2020-01-01".into(), "now()".into());
    let is = table(|t| t["columns"] = json!([column(1, "a"), stamped]));
    assert_eq!(
        statements(changed("table", table(|_| {}), is)),
        [
            r#"ALTER TABLE "public"."t" ADD COLUMN "at" integer DEFAULT '2020-01-01'::integer"#,
            r#"ALTER TABLE ONLY "public"."t" ALTER COLUMN "at" SET DEFAULT now()"#
        ]
    );
}

#[test]
fn an_index_is_known_by_its_id_and_a_rebuilt_one_by_its_name() {
    let with = |index: Value| table(|t| t["indexes"] = json!([index]));
    let renamed = statements(changed("table", with(index(7, "i")), with(index(7, "j"))));
    assert_eq!(renamed, [r#"ALTER INDEX "public"."i" RENAME TO "j""#]);
    assert!(statements(changed("table", with(index(7, "i")), with(index(8, "i")))).is_empty());
    let mut half_built = index(8, "i");
    half_built["valid"] = false.into();
    assert!(statements(changed("table", table(|_| {}), with(half_built))).is_empty());
}

#[test]
fn tables_that_reference_each_other_let_go_before_they_are_dropped() {
    let a = table(|t| t["constraints"] = json!([key(5, "to_u", "public.u")]));
    let u = table(|t| (t["name"], t["constraints"]) = ("u".into(), json!([key(6, "to_t", "public.t")])));
    let dropped = plan(&[changed("table", a, Value::Null), changed("table", u, Value::Null)], ALL).unwrap();
    assert_eq!(
        dropped,
        [
            r#"ALTER TABLE IF EXISTS "public"."t" DROP CONSTRAINT IF EXISTS "to_u""#,
            r#"ALTER TABLE IF EXISTS "public"."u" DROP CONSTRAINT IF EXISTS "to_t""#,
            r#"DROP TABLE IF EXISTS "public"."u""#,
            r#"DROP TABLE IF EXISTS "public"."t""#
        ]
    );
}

#[test]
fn owners_and_grants_are_left_out_as_asked() {
    let is = table(|t| {
        t["owner"] = "you".into();
        t["grants"] = json!([{ "to": null, "privilege": "SELECT", "grantable": false }]);
    });
    let change = || changed("table", table(|_| {}), is.clone());
    let (owner, grant) =
        (r#"ALTER TABLE "public"."t" OWNER TO "you""#, r#"GRANT SELECT ON TABLE "public"."t" TO PUBLIC"#);
    assert_eq!(statements(change()), [owner, grant]);
    assert_eq!(plan(&[change()], Rights { owner: false, privileges: true }).unwrap(), [grant]);
    assert_eq!(plan(&[change()], Rights { owner: true, privileges: false }).unwrap(), [owner]);
}

#[test]
fn a_value_of_an_enum_finds_its_place() {
    let mood = |labels: Value| json!({ "schema": "s", "name": "m", "owner": "me", "kind": "e", "grants": [], "labels": labels });
    let was = mood(json!([{ "id": 1, "label": "a" }, { "id": 2, "label": "b" }]));
    let is = mood(
        json!([{ "id": 3, "label": "0" }, { "id": 1, "label": "it's" }, { "id": 4, "label": "c" }, { "id": 2, "label": "b" }]),
    );
    assert_eq!(
        statements(changed("type", was, is)),
        [
            r#"ALTER TYPE "s"."m" RENAME VALUE 'a' TO 'it''s'"#,
            r#"ALTER TYPE "s"."m" ADD VALUE '0' BEFORE 'it''s'"#,
            r#"ALTER TYPE "s"."m" ADD VALUE 'c' AFTER 'it''s'"#
        ]
    );
}

#[test]
fn what_is_not_covered_is_named() {
    let family = json!({ "class": "other", "type": "operator family", "identity": "s.f USING btree" });
    assert_eq!(plan(&[family], ALL), Err(Uncovered { object: "operator family s.f USING btree".into() }));
    let base = changed("type", Value::Null, json!({ "schema": "s", "name": "b", "owner": "me", "grants": [] }));
    assert_eq!(plan(&[base], ALL), Err(Uncovered { object: r#"base type "s"."b""#.into() }));
    let server = json!({ "class": "other", "type": "server", "identity": "far" });
    assert_eq!(plan(&[server], ALL), Ok(Vec::new()));
}

-- Quarantine: rows that an incident is about are set apart, reversibly. No row is ever changed: what is set apart is a list of keys, and
-- views, policies and triggers heed it. Nothing happens to a table before it is switched on:
--
--   psql -d shop -f sql/04-quarantine.sql
--   psql -d shop -c '\password firstbad_quarantine'
--   psql -d shop -c "select firstbad.quarantine_on('orders')"
--   psql -d shop -c "select firstbad.quarantine_on('sales.payments', freeze => true, hide_from => '{reporting}')"
--   psql -d shop -c "select firstbad.quarantine_off('orders')"
--
-- Run by the owner of the tables, with CREATE on the database and CREATEROLE, or by a superuser. The functions for the role run as whoever
-- runs this file. Prefer the tables' owner: where somebody else owns the tables, their types' casts and comparisons run with that right.
--
-- It makes
--   firstbad.quarantine, firstbad.quarantine_tables   what is set apart, and the tables that are switched on; nobody may read them but you
--   firstbad.quarantine_on, quarantine_off            for you: switch a table on and off; on again changes how, and renews the view's columns
--   firstbad.quarantine_rows, _release, _status       for the role: set rows apart, let them go, look
--   firstbad_private                                  helpers that views, policies and triggers call; nobody has USAGE on it
--   clean                                             views of the tables that are switched on, without the rows that are set apart
--   a role that may log in and call the three functions; it may read and write no table
--
-- Variables:
--   role   the role's name; default firstbad_quarantine

\set ON_ERROR_STOP on
\if :{?role}
\else
  \set role firstbad_quarantine
\endif

begin;
set local client_min_messages = warning;
select set_config('firstbad.role', :'role', true) as firstbad_role \gset

do $$
begin
  if exists (select from pg_namespace n where n.nspname = 'clean'
              and coalesce(obj_description(n.oid, 'pg_namespace'), '') not like 'Views of firstbad%') then
    raise exception 'there is a schema clean already, and it is not firstbad''s'
      using hint = 'rename it, or keep quarantine out of this database';
  end if;
end
$$;

create schema if not exists firstbad;
comment on schema firstbad is 'Helpers of firstbad, which names the first bad write; taken away by sql/99-uninstall.sql';
create schema if not exists firstbad_private;
comment on schema firstbad_private is 'What firstbad''s views, policies and triggers call; nobody else has to';
create schema if not exists clean;
comment on schema clean is 'Views of firstbad: tables without the rows that are set apart';
grant usage on schema clean to public;
revoke all on schema firstbad_private from public;

create table if not exists firstbad.quarantine_tables (
  relation regclass primary key,
  -- the view's name in the schema clean
  view text not null unique,
  frozen boolean not null,
  hide_from name[] not null,
  -- row security was off before, so that it is switched off again
  secured boolean not null,
  switched_on timestamptz not null default now(),
  switched_by text not null default session_user
);
comment on table firstbad.quarantine_tables is 'Tables whose rows may be set apart';

create table if not exists firstbad.quarantine (
  relation regclass not null references firstbad.quarantine_tables,
  -- the primary key's values as text, in the order of the key
  row_key text[] not null,
  -- incidents are numbered by store
  store text not null,
  incident text not null,
  -- the key and the row as they were when it was set apart, for people
  key jsonb not null,
  image jsonb not null,
  applied_at timestamptz not null default now(),
  applied_by text not null default session_user,
  primary key (relation, row_key, store, incident)
);
comment on table firstbad.quarantine is 'Rows that are set apart now';
create index if not exists quarantine_incident on firstbad.quarantine (store, incident);
revoke all on firstbad.quarantine, firstbad.quarantine_tables from public;

-- A type without its domains.
create or replace function firstbad_private.base_type(type oid) returns oid
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  with recursive below as (
    select t.oid, t.typtype, t.typbasetype from pg_type t where t.oid = type
    union all
    select t.oid, t.typtype, t.typbasetype from below b join pg_type t on b.typtype = 'd' and t.oid = b.typbasetype
  )
  select oid from below where typtype <> 'd'
$$;

-- The columns of a table: `type` without length and precision, which would cut what is compared; `by_value` where values are compared and not
-- their texts; for columns of the primary key their place in it, and the operator by which its index knows that two are the same.
create or replace function firstbad_private.columns_of(relation oid)
  returns table (name name, type text, by_value boolean, place bigint, equals text)
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select a.attname, format_type(b.base, -1),
         coalesce(nullif(t.typelem, 0), b.base) in (16, 17, 20, 21, 23, 26, 700, 701, 1042, 1082, 1083, 1114, 1184, 1700, 3802)
           and (t.typelem = 0 or t.typcategory = 'A'),
         k.place, k.equals
    from pg_attribute a
    cross join lateral (select firstbad_private.base_type(a.atttypid) as base) b
    join pg_type t on t.oid = b.base
    left join (
      select p.attnum, p.place, format('operator(%I.%s)', n.nspname, o.oprname) as equals
        from pg_index i
        cross join lateral unnest(i.indkey::int2[], i.indclass::oid[]) with ordinality p(attnum, class, place)
        join pg_opclass c on c.oid = p.class
        join pg_amop m on m.amopfamily = c.opcfamily and m.amoplefttype = c.opcintype and m.amoprighttype = c.opcintype and m.amopstrategy = 3
        join pg_operator o on o.oid = m.amopopr
        join pg_namespace n on n.oid = o.oprnamespace
       where i.indrelid = relation and i.indisprimary and p.place <= i.indnkeyatts
    ) k on k.attnum = a.attnum
   where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
$$;

-- Keys that are set apart. Views and policies call it for whoever asks them; without USAGE on the schema nobody else can.
create or replace function firstbad_private.quarantined_keys(relation regclass) returns setof text[]
  language sql stable security definer parallel safe rows 100
  set search_path = pg_catalog, pg_temp
as $$
  select distinct q.row_key from firstbad.quarantine q where q.relation = $1
$$;

-- The condition that a row of a table, which is called `t` there, is not set apart.
create or replace function firstbad_private.is_free(relation regclass, t text) returns text
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select format('not exists (select from firstbad_private.quarantined_keys(%L::regclass) k(row_key) where %s)', relation,
                string_agg(format('(k.row_key[%s])::%s %s %s.%I', c.place, c.type, c.equals, t, c.name), ' and ' order by c.place))
    from firstbad_private.columns_of(relation) c
   where c.place is not null
$$;

-- TRUNCATE of a frozen table.
create or replace function firstbad_private.freeze_truncate() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  held text;
begin
  select q.incident into held from firstbad.quarantine q
   where q.relation = coalesce(pg_partition_root(tg_relid), tg_relid) order by q.applied_at limit 1;
  if held is not null then
    raise exception 'rows of %.% are set apart by firstbad incident %', quote_ident(tg_table_schema), quote_ident(tg_table_name), held
      using errcode = 'FBQ01', hint = format('they can be changed again after: firstbad quarantine release %s', held);
  end if;
  return null;
end
$$;

-- Takes away what switching a table on made, except its view.
create or replace function firstbad_private.take_off(relation oid) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  known firstbad.quarantine_tables;
begin
  select * into known from firstbad.quarantine_tables q where q.relation = take_off.relation;
  if exists (select from pg_class c where c.oid = take_off.relation) then
    execute format('drop trigger if exists firstbad_freeze on %s', known.relation);
    execute format('drop trigger if exists firstbad_freeze_truncate on %s', known.relation);
    if known.hide_from <> '{}' then
      execute format('drop policy if exists firstbad_quarantine on %s', known.relation);
    end if;
    if known.secured then
      execute format('drop policy if exists firstbad_everybody on %s', known.relation);
      -- Policies that somebody made meanwhile need it.
      if not exists (select from pg_policy p where p.polrelid = take_off.relation) then
        execute format('alter table %s disable row level security', known.relation);
      end if;
    end if;
  end if;
  execute format('drop function if exists firstbad_private.%I()', 'freeze_' || take_off.relation);
end
$$;

-- Refuses writes of rows that are set apart.
create or replace function firstbad_private.freeze_on(relation regclass) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  name constant text := 'freeze_' || relation::oid;
  old_key text;
  new_key text;
begin
  select string_agg(format('format(''%%s'', old.%I)', c.name), ', ' order by c.place),
         string_agg(format('format(''%%s'', new.%I)', c.name), ', ' order by c.place)
    into old_key, new_key
    from firstbad_private.columns_of(freeze_on.relation) c where c.place is not null;
  execute format('create or replace function firstbad_private.%I() returns trigger language plpgsql security definer
    set search_path = pg_catalog, pg_temp set datestyle = ''ISO, MDY'' set intervalstyle = ''postgres'' set timezone = ''UTC''
    set extra_float_digits = 1 set bytea_output = ''hex'' set xmlbinary = ''base64'' set lc_monetary = ''C'' as %L', name,
    format('
declare
  root constant oid := coalesce(pg_partition_root(tg_relid), tg_relid);
  held text;
begin
  if tg_op <> ''INSERT'' then
    select q.incident into held from firstbad.quarantine q where q.relation = root and q.row_key = array[%1$s] limit 1;
  end if;
  if held is null and tg_op <> ''DELETE'' then
    select q.incident into held from firstbad.quarantine q where q.relation = root and q.row_key = array[%2$s] limit 1;
  end if;
  if held is not null then
    raise exception ''a row of %% is set apart by firstbad incident %%'', root::regclass, held
      using errcode = ''FBQ01'', hint = format(''it can be changed again after: firstbad quarantine release %%s'', held);
  end if;
  if tg_op = ''DELETE'' then
    return old;
  end if;
  return new;
end', old_key, new_key));
  execute format('revoke all on function firstbad_private.%I() from public', name);
  execute format('create trigger firstbad_freeze before insert or update or delete on %s for each row execute function firstbad_private.%I()',
                 relation, name);
  execute format('create trigger firstbad_freeze_truncate before truncate on %s execute function firstbad_private.freeze_truncate()', relation);
end
$$;

-- Hides rows that are set apart from roles: a restrictive policy for them. Where row security was off, a table with no other policy would hide
-- all its rows from everybody but its owner as soon as it is on: so there is a second policy that lets everybody do what they could before.
create or replace function firstbad_private.hide(relation regclass, hide_from name[]) returns boolean
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  secured boolean;
  one name;
  owner oid;
  list text;
begin
  select not c.relrowsecurity, c.relowner into secured, owner from pg_class c where c.oid = hide.relation;
  if secured and exists (select from pg_policy p where p.polrelid = hide.relation) then
    raise exception '% has policies that are not in force: row security is off, and switching it on would put them into force', hide.relation
      using hint = 'drop them, or enable row level security yourself first';
  end if;
  foreach one in array hide_from loop
    if not exists (select from pg_roles r where r.rolname = one) then
      raise exception 'there is no role %', one;
    end if;
    if (select r.rolsuper or r.rolbypassrls from pg_roles r where r.rolname = one) or pg_has_role(one, owner, 'usage') then
      raise exception 'nothing can be hidden from role %: row security does not bind superusers, the table''s owner, and BYPASSRLS', one;
    end if;
  end loop;
  select string_agg(distinct quote_ident(r), ', ') into list from unnest(hide_from) r;
  if secured then
    execute format('create policy firstbad_everybody on %s as permissive for all to public using (true) with check (true)', hide.relation);
    execute format('alter table %s enable row level security', hide.relation);
  end if;
  execute format('create policy firstbad_quarantine on %s as restrictive for all to %s using (%s) with check (true)', hide.relation, list,
                 firstbad_private.is_free(hide.relation, hide.relation::text));
  return secured;
end
$$;

-- Makes the view of a table, or makes it again: with the columns that the table has now.
create or replace function firstbad_private.show(relation regclass, view text, secured boolean) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  invoker constant boolean := current_setting('server_version_num')::int >= 150000;
  body text;
  one text;
begin
  select format('select %s from %s t where %s', string_agg(format('t.%I', a.attname), ', ' order by a.attnum), show.relation,
                firstbad_private.is_free(show.relation, 't'))
    into body
    from pg_attribute a where a.attrelid = show.relation and a.attnum > 0 and not a.attisdropped;
  body := format('view clean.%I with (security_barrier = true%s) as %s', view, case when invoker then ', security_invoker = true' end, body);
  begin
    execute 'create or replace ' || body;
  exception when invalid_table_definition then
    execute format('drop view clean.%I', view);
    execute 'create ' || body;
  end;
  execute format('comment on view clean.%I is %L', view, 'Rows of ' || show.relation || ' that are not set apart');
  if invoker then
    -- What somebody may read is decided by the table.
    execute format('grant select on clean.%I to public', view);
    return;
  end if;
  if not secured and (select c.relrowsecurity from pg_class c where c.oid = show.relation) then
    raise exception '% has row security: before PostgreSQL 15, a view would show what it hides', show.relation;
  end if;
  execute format('revoke all on clean.%I from public', view);
  for one in
    select distinct case held.grantee when 0 then 'public' else quote_ident(r.rolname) end
      from pg_class c cross join aclexplode(c.relacl) held left join pg_roles r on r.oid = held.grantee
     where c.oid = show.relation and held.privilege_type = 'SELECT'
  loop
    execute format('grant select on clean.%I to %s', view, one);
  end loop;
end
$$;

create or replace function firstbad.quarantine_on(relation regclass, freeze boolean default false, hide_from name[] default '{}') returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  what record;
  view_name text;
  secured boolean := false;
begin
  select c.relkind, c.relispartition, c.relpersistence, c.relname, n.nspname into what
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = quarantine_on.relation;
  if what.relkind is null or what.relkind not in ('r', 'p') or what.relpersistence = 't' or what.nspname in ('pg_catalog', 'firstbad', 'firstbad_private') then
    raise exception '% is no table whose rows can be set apart', relation;
  elsif what.relispartition then
    raise exception '% is a partition: name its table, %', relation, pg_partition_root(relation);
  elsif what.relkind = 'r' and exists (select from pg_inherits i where i.inhparent = quarantine_on.relation) then
    raise exception 'other tables inherit from %: a key does not name one row', relation;
  elsif not exists (select from firstbad_private.columns_of(relation) c where c.place is not null) then
    raise exception '% has no primary key: nothing names a row', relation;
  end if;
  view_name := case what.nspname when 'public' then what.relname else what.nspname || '.' || what.relname end;
  if octet_length(view_name) > 63 then
    raise exception 'the view''s name would be longer than 63 bytes: clean.%', quote_ident(view_name);
  end if;
  -- Tables that are gone.
  perform firstbad_private.take_off(q.relation) from firstbad.quarantine_tables q
    where not exists (select from pg_class c where c.oid = q.relation);
  delete from firstbad.quarantine q where not exists (select from pg_class c where c.oid = q.relation);
  delete from firstbad.quarantine_tables q where not exists (select from pg_class c where c.oid = q.relation);
  if exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'clean' and c.relname = view_name)
     and not exists (select from firstbad.quarantine_tables q where q.relation = quarantine_on.relation and q.view = view_name) then
    raise exception 'there is a clean.% already, and it is not the view of %', quote_ident(view_name), relation;
  end if;
  if exists (select from firstbad.quarantine_tables q where q.relation = quarantine_on.relation) then
    perform firstbad_private.take_off(relation);
  end if;
  if coalesce(hide_from, '{}') <> '{}' then
    secured := firstbad_private.hide(relation, hide_from);
  end if;
  if quarantine_on.freeze then
    perform firstbad_private.freeze_on(relation);
  end if;
  perform firstbad_private.show(relation, view_name, secured);
  insert into firstbad.quarantine_tables as q (relation, view, frozen, hide_from, secured)
  values (quarantine_on.relation, view_name, coalesce(quarantine_on.freeze, false), coalesce(quarantine_on.hide_from, '{}'), secured)
  on conflict on constraint quarantine_tables_pkey do update
     set view = excluded.view, frozen = excluded.frozen, hide_from = excluded.hide_from, secured = excluded.secured;
end
$$;
comment on function firstbad.quarantine_on(regclass, boolean, name[]) is
  'From now on rows of this table may be set apart; freeze: they cannot be written then; hide_from: roles that do not see them then';

create or replace function firstbad.quarantine_off(relation regclass) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  held text;
  view_name text;
begin
  select string_agg(distinct q.incident, ', ') into held from firstbad.quarantine q where q.relation = quarantine_off.relation;
  if held is not null then
    raise exception 'rows of % are set apart by %', relation, held
      using hint = 'release them first: firstbad quarantine release ' || held;
  end if;
  select q.view into view_name from firstbad.quarantine_tables q where q.relation = quarantine_off.relation;
  if view_name is null then
    return;
  end if;
  perform firstbad_private.take_off(relation);
  execute format('drop view if exists clean.%I', view_name);
  delete from firstbad.quarantine_tables q where q.relation = quarantine_off.relation;
end
$$;
comment on function firstbad.quarantine_off(regclass) is 'Everything about this table is as it was before quarantine_on';

-- The tables that are switched on, and how many rows of them a store's incidents have set apart.
create or replace function firstbad.quarantine_status(store text)
  returns table (schema_name text, table_name text, frozen boolean, incident text, held bigint)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
  select n.nspname::text, c.relname::text, t.frozen, q.incident, count(q.relation)
    from firstbad.quarantine_tables t
    join pg_class c on c.oid = t.relation
    join pg_namespace n on n.oid = c.relnamespace
    left join firstbad.quarantine q on q.relation = t.relation and q.store = quarantine_status.store
   group by 1, 2, 3, 4
   order by 1, 2, 4
$$;

-- Sets rows apart, or says what would become of them. `rows` is a list of {"key": {column: text}, "image": {column: text or null}}, all
-- values as this server prints them. A row is locked, then compared with the image in every column that the image has: what has changed
-- since is left alone. For each row, by its place in the list from 1:
--   set_apart (or would be) · already · changed · gone · other_key (the table has another primary key) · unreadable (no value of the type)
create or replace function firstbad.quarantine_rows(store text, incident text, schema_name text, table_name text, rows jsonb, set_apart boolean)
  returns table (place bigint, outcome text)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set datestyle = 'ISO, MDY' set intervalstyle = 'postgres' set timezone = 'UTC' set extra_float_digits = 1 set bytea_output = 'hex'
  set xmlbinary = 'base64' set lc_monetary = 'C'
as $$
declare
  target regclass;
  keys text[];
  known text[];
  lookup text;
  one jsonb;
  found_key text[];
  found_row jsonb;
  is_same boolean;
begin
  select c.oid::regclass into target
    from firstbad.quarantine_tables t join pg_class c on c.oid = t.relation join pg_namespace n on n.oid = c.relnamespace
   where n.nspname = schema_name and c.relname = table_name;
  if target is null then
    raise exception 'quarantine is not switched on for %.%', quote_ident(schema_name), quote_ident(table_name)
      using errcode = 'FBQ02', hint = format('its owner can: select firstbad.quarantine_on(%L)', quote_ident(schema_name) || '.' || quote_ident(table_name));
  end if;
  select array_agg(c.name::text order by c.name::text) filter (where c.place is not null), array_agg(c.name::text),
         format('select array[%s], to_jsonb(t), %s from %s t where %s%s',
           string_agg(format('format(''%%s'', t.%I)', c.name), ', ' order by c.place) filter (where c.place is not null),
           string_agg(case when c.by_value
             then format('(not jsonb_exists($1 -> ''image'', %2$L) or t.%1$I is not distinct from ($1 -> ''image'' ->> %2$L)::%3$s)', c.name, c.name, c.type)
             else format('(not jsonb_exists($1 -> ''image'', %2$L) or case when t.%1$I is null then null else format(''%%s'', t.%1$I) end'
                         ' is not distinct from $1 -> ''image'' ->> %2$L)', c.name, c.name) end, ' and '),
           target,
           string_agg(format('t.%I %s ($1 -> ''key'' ->> %L)::%s', c.name, c.equals, c.name, c.type), ' and ' order by c.place)
             filter (where c.place is not null),
           case when set_apart then ' for share of t' else '' end)
    into keys, known, lookup
    from firstbad_private.columns_of(target) c;
  for one, place in select e.value, e.ordinality from jsonb_array_elements(rows) with ordinality e(value, ordinality) order by e.ordinality loop
    if (select array_agg(k order by k) from jsonb_object_keys(one -> 'key') k) is distinct from keys then
      outcome := 'other_key';
      return next;
      continue;
    end if;
    found_key := null;
    begin
      execute lookup into found_key, found_row, is_same using one;
    exception when data_exception then
      outcome := 'unreadable';
      return next;
      continue;
    end;
    if found_key is null then
      outcome := 'gone';
    elsif exists (select from firstbad.quarantine q where q.relation = target and q.row_key = found_key
                   and q.store = quarantine_rows.store and q.incident = quarantine_rows.incident) then
      outcome := 'already';
    elsif is_same is not true or exists (select from jsonb_object_keys(one -> 'image') k where k <> all (known)) then
      outcome := 'changed';
    else
      outcome := 'set_apart';
      if set_apart then
        insert into firstbad.quarantine as q (relation, row_key, store, incident, key, image)
        values (target, found_key, quarantine_rows.store, quarantine_rows.incident, one -> 'key', found_row)
        on conflict do nothing;
      end if;
    end if;
    return next;
  end loop;
end
$$;

-- Lets the rows of an incident go, or of all incidents of a store where none is named; how many of each table.
create or replace function firstbad.quarantine_release(store text, incident text)
  returns table (schema_name text, table_name text, released bigint)
  language sql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
  with gone as (
    delete from firstbad.quarantine q
     where q.store = $1 and ($2 is null or q.incident = $2)
    returning q.relation
  )
  select n.nspname::text, c.relname::text, count(*)
    from gone join pg_class c on c.oid = gone.relation join pg_namespace n on n.oid = c.relnamespace
   group by 1, 2 order by 1, 2
$$;

do $$
declare
  role constant text := current_setting('firstbad.role');
  one regprocedure;
begin
  if not exists (select from pg_roles where rolname = role) then
    execute format('create role %I login', role);
  end if;
  if not has_database_privilege(role, current_database(), 'connect') then
    execute format('grant connect on database %I to %I', current_database(), role);
  end if;
  execute format('grant usage on schema firstbad to %I', role);
  for one in
    select p.oid::regprocedure from pg_proc p join pg_namespace n on n.oid = p.pronamespace
     where n.nspname = 'firstbad' and p.proname ~ '^quarantine_' or n.nspname = 'firstbad_private'
  loop
    execute format('revoke all on function %s from public', one);
  end loop;
  execute 'grant execute on function firstbad_private.quarantined_keys(regclass) to public';
  execute format('grant execute on function firstbad.quarantine_rows(text, text, text, text, jsonb, boolean) to %I', role);
  execute format('grant execute on function firstbad.quarantine_release(text, text) to %I', role);
  execute format('grant execute on function firstbad.quarantine_status(text) to %I', role);
end
$$;
commit;

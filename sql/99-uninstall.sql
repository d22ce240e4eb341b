-- Takes away everything that 01 to 04 and the watcher made in this database: the slot, the publication, firstbad.context, quarantine with its
-- views, policies and triggers, the roles.
--
--   psql -d shop -f sql/99-uninstall.sql
--
-- Run by a superuser, or by whoever made all of it. Stop the watcher first: a slot that is streamed is not dropped. A slot keeps log
-- for its watcher as long as it is there, so this is also how to let go of it. The store is not touched; it is a directory of yours.
--
-- It refuses rather than take away what is not firstbad's: a role that owns something, that is a superuser, or that may do something in
-- other databases; objects in the schemas firstbad and clean beside firstbad's own; rows that are set apart, which would be seen again.
--
-- Variables:
--   slot, publication   default firstbad
--   role                default firstbad_watch
--   quarantine_role     default firstbad_quarantine
--   set_apart           release: rows that are set apart are let go

\set ON_ERROR_STOP on
\if :{?slot}
\else
  \set slot firstbad
\endif
\if :{?publication}
\else
  \set publication firstbad
\endif
\if :{?role}
\else
  \set role firstbad_watch
\endif
\if :{?quarantine_role}
\else
  \set quarantine_role firstbad_quarantine
\endif
\if :{?set_apart}
\else
  \set set_apart keep
\endif

begin;
set local client_min_messages = warning;
select set_config('firstbad.slot', :'slot', true) as firstbad_slot,
       set_config('firstbad.publication', :'publication', true) as firstbad_publication,
       set_config('firstbad.role', :'role', true) as firstbad_role,
       set_config('firstbad.quarantine_role', :'quarantine_role', true) as firstbad_quarantine_role,
       set_config('firstbad.set_apart', :'set_apart', true) as firstbad_set_apart \gset

-- Quarantine: every table is switched off, then what is left are firstbad's own helpers.
do $$
declare
  one record;
  held text;
begin
  if to_regclass('firstbad.quarantine_tables') is null then
    return;
  end if;
  delete from firstbad.quarantine q where not exists (select from pg_class c where c.oid = q.relation);
  if current_setting('firstbad.set_apart') = 'release' then
    delete from firstbad.quarantine;
  end if;
  select string_agg(distinct incident, ', ') into held from firstbad.quarantine;
  if held is not null then
    raise exception 'rows are set apart by %', held
      using hint = 'release them with firstbad quarantine release, or run this with -v set_apart=release';
  end if;
  for one in select relation from firstbad.quarantine_tables loop
    perform firstbad.quarantine_off(one.relation);
  end loop;
  for one in
    select p.oid::regprocedure as name from pg_proc p join pg_namespace n on n.oid = p.pronamespace
     where n.nspname = 'firstbad' and p.proname in ('quarantine_on', 'quarantine_off', 'quarantine_rows', 'quarantine_release', 'quarantine_status')
        or n.nspname = 'firstbad_private'
  loop
    execute format('drop function %s', one.name);
  end loop;
  drop table firstbad.quarantine, firstbad.quarantine_tables;
  -- Without CASCADE, as all of it.
  drop schema firstbad_private;
  drop schema clean;
end
$$;

do $$
declare
  slot constant text := current_setting('firstbad.slot');
  publication constant text := current_setting('firstbad.publication');
  role text;
  id oid;
  holder int;
  other text;
begin
  select active_pid into holder from pg_replication_slots where slot_name = slot and active;
  if holder is not null then
    raise exception 'slot % is streamed by process %: stop the watcher first', slot, holder;
  end if;
  if exists (select from pg_replication_slots where slot_name = slot and database is distinct from current_database()) then
    raise exception 'slot % is not one of this database', slot;
  end if;

  execute format('drop publication if exists %I', publication);
  drop function if exists firstbad.context(jsonb);
  -- Without CASCADE: whatever else is in it keeps it, and all of this is undone.
  drop schema if exists firstbad;

  foreach role in array array[current_setting('firstbad.role'), current_setting('firstbad.quarantine_role')] loop
    select oid into id from pg_roles where rolname = role;
    continue when id is null;
    if (select rolsuper from pg_roles where oid = id) or id = current_user::regrole then
      raise exception '% is no role of a watcher', role;
    end if;
    if exists (select from pg_shdepend where refclassid = 'pg_authid'::regclass and refobjid = id and deptype = 'o') then
      raise exception 'role % owns something: see \dt, \dn, \l', role;
    end if;
    select d.datname into other
      from pg_shdepend s join pg_database d on d.oid = s.dbid
     where s.refclassid = 'pg_authid'::regclass and s.refobjid = id and d.datname <> current_database() limit 1;
    if other is not null then
      raise exception 'role % is used in database % as well', role, other
        using hint = 'to keep it, run this with -v role=none, or -v quarantine_role=none';
    end if;
    -- It owns nothing, so these are its privileges.
    execute format('drop owned by %I', role);
    execute format('drop role %I', role);
  end loop;

  -- The last step, since it cannot be undone.
  perform pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = slot;
end
$$;
commit;

-- The publication: which tables' changes the server tells. Named tables only, never FOR ALL TABLES.
--
--   psql -d shop -v tables='orders, shipments, sales.payments' -f sql/02-publication.sql
--
-- Run by the owner of the tables, who needs CREATE on the database. A slot knows only what was published when it was made: run this
-- before the watcher begins. Tables that come later are told from then on.
--
-- Variables:
--   tables        the tables that the rules read, as SQL writes them, with commas between (needed). A partitioned table is named
--                 itself, not its partitions.
--   publication   its name; default firstbad
--
-- Run again, the publication has the named tables and no others. A table in which UPDATE and DELETE would fail once it is published, since
-- nothing in the log would name the row, is refused: give it a primary key, or REPLICA IDENTITY FULL.

\set ON_ERROR_STOP on
\if :{?publication}
\else
  \set publication firstbad
\endif
\if :{?tables}
\else
  do $$ begin raise exception 'name the tables: psql -v tables=''orders, sales.payments'' -f sql/02-publication.sql'; end $$;
\endif

begin;
set local client_min_messages = warning;
select set_config('firstbad.publication', :'publication', true) as firstbad_publication,
       set_config('firstbad.tables', :'tables', true) as firstbad_tables \gset

do $$
declare
  name constant text := current_setting('firstbad.publication');
  options constant text := 'publish = ''insert, update, delete, truncate'', publish_via_partition_root = true';
  wanted regclass[];
  list text;
  bare text;
begin
  select array_agg(distinct btrim(part)::regclass) into wanted
    from unnest(string_to_array(current_setting('firstbad.tables'), ',')) part
   where btrim(part) <> '';
  if wanted is null then
    raise exception 'no table is named';
  end if;
  select string_agg(format('%I.%I', n.nspname, c.relname), ', ' order by n.nspname, c.relname) into list
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
   where c.oid = any (wanted);

  -- The identity of a partition is its own: that of the table that it belongs to does not count.
  with recursive tree as (
    select unnest(wanted)::oid as oid
    union
    select i.inhrelid from pg_inherits i join tree on i.inhparent = tree.oid
  )
  select string_agg(c.oid::regclass::text, ', ' order by c.oid::regclass::text) into bare
    from tree join pg_class c on c.oid = tree.oid
   where c.relkind = 'r'
     and (c.relreplident = 'n'
       or c.relreplident = 'd' and not exists (select from pg_index x where x.indrelid = c.oid and x.indisprimary)
       or c.relreplident = 'i' and not exists (select from pg_index x where x.indrelid = c.oid and x.indisreplident));
  if bare is not null then
    raise exception 'UPDATE and DELETE would fail in %', bare
      using hint = 'give it a primary key, or: alter table … replica identity full';
  end if;

  if exists (select from pg_publication where pubname = name and puballtables) then
    raise exception 'publication % is for all tables: drop it first', name;
  elsif exists (select from pg_publication where pubname = name) then
    execute format('alter publication %I set table %s', name, list);
    execute format('alter publication %I set (%s)', name, options);
  else
    execute format('create publication %I for table %s with (%s)', name, list, options);
  end if;
end
$$;
commit;

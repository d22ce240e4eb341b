create table t (a int);
create table public.t (b int);

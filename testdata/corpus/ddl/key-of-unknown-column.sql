create table t (id int);
alter table only t add constraint t_pkey primary key (idd);

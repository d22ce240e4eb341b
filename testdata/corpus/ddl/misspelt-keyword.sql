create table t (
  id bigint primery key
);

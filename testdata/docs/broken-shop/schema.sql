create table customers (
    id bigint primary key,
    name text not null
);
create table orders (
    id bigint primary key,
    customer_id bigint not null references customers (id),
    status text not null,
    total numeric(12,2)
);

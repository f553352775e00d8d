ALTER TABLE tpch.nation ADD FOREIGN KEY (n_regionkey) REFERENCES tpch.region;
ALTER TABLE tpch.supplier ADD FOREIGN KEY (s_nationkey) REFERENCES tpch.nation;
ALTER TABLE tpch.partsupp ADD FOREIGN KEY (ps_partkey) REFERENCES tpch.part;
ALTER TABLE tpch.partsupp ADD FOREIGN KEY (ps_suppkey) REFERENCES tpch.supplier;
ALTER TABLE tpch.customer ADD FOREIGN KEY (c_nationkey) REFERENCES tpch.nation;
ALTER TABLE tpch.orders ADD FOREIGN KEY (o_custkey) REFERENCES tpch.customer;
ALTER TABLE tpch.lineitem ADD FOREIGN KEY (l_orderkey) REFERENCES tpch.orders;
ALTER TABLE tpch.lineitem ADD FOREIGN KEY (l_partkey, l_suppkey) REFERENCES tpch.partsupp;

CREATE INDEX nation_regionkey ON tpch.nation (n_regionkey);
CREATE INDEX supplier_nationkey ON tpch.supplier (s_nationkey);
CREATE INDEX partsupp_suppkey ON tpch.partsupp (ps_suppkey);
CREATE INDEX customer_nationkey ON tpch.customer (c_nationkey);
CREATE INDEX orders_custkey ON tpch.orders (o_custkey);
CREATE INDEX orders_orderdate ON tpch.orders (o_orderdate);
CREATE INDEX lineitem_partkey_suppkey ON tpch.lineitem (l_partkey, l_suppkey);
CREATE INDEX lineitem_suppkey ON tpch.lineitem (l_suppkey);
CREATE INDEX lineitem_shipdate ON tpch.lineitem (l_shipdate);

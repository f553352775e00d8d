-- The profit on green parts by the supplier's nation and the year of the order.
-- tally: tpch.q09
SELECT v.nation, v.year, sum(v.amount) AS profit
FROM (
    SELECT
        n.n_name AS nation,
        extract(year FROM o.o_orderdate) AS year,
        l.l_extendedprice * (1 - l.l_discount) - ps.ps_supplycost * l.l_quantity AS amount
    FROM tpch.part AS p
    JOIN tpch.lineitem AS l ON l.l_partkey = p.p_partkey
    JOIN tpch.partsupp AS ps ON ps.ps_partkey = l.l_partkey AND ps.ps_suppkey = l.l_suppkey
    JOIN tpch.supplier AS s ON s.s_suppkey = l.l_suppkey
    JOIN tpch.orders AS o ON o.o_orderkey = l.l_orderkey
    JOIN tpch.nation AS n ON n.n_nationkey = s.s_nationkey
    WHERE p.p_name LIKE '%green%'
) AS v
GROUP BY v.nation, v.year
ORDER BY v.nation, v.year DESC

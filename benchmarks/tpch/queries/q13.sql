-- How many customers have how many orders, special requests left out.
-- tally: tpch.q13
SELECT v.orders, count(*) AS customers
FROM (
    SELECT c.c_custkey, count(o.o_orderkey) AS orders
    FROM tpch.customer AS c
    LEFT JOIN tpch.orders AS o
        ON o.o_custkey = c.c_custkey AND o.o_comment NOT LIKE '%special%requests%'
    GROUP BY c.c_custkey
) AS v
GROUP BY v.orders
ORDER BY customers DESC, v.orders DESC
